"""Tiny random transformers models and a tokenizer, made on the spot."""

import warnings
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTBigCodeConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

from flora.layout import AdapterLayout, Group, Member

VOCAB_SIZE = 258
CONFIGS: dict[str, Any] = {
    "llama": LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        initializer_range=0.2,  # the usual 0.02 leaves so small a model all but linear
    ),
    "gpt2": GPT2Config(vocab_size=VOCAB_SIZE, n_embd=32, n_layer=2, n_head=4, n_positions=128),
    "gpt_bigcode": GPTBigCodeConfig(
        vocab_size=VOCAB_SIZE, n_embd=32, n_layer=2, n_head=4, n_positions=128
    ),
}
CHAT_TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def make_model(kind: str = "llama", seed: int = 0) -> Any:
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        # GPT-BigCode's module compiles a function by torch.jit as it is imported.
        warnings.simplefilter("ignore", DeprecationWarning)
        return AutoModelForCausalLM.from_config(CONFIGS[kind]).eval()


def make_tokenizer() -> Any:
    """One token a byte, 256 as end of text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {character: i for i, character in enumerate(alphabet)} | {"<eos>": 256}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>")
    fast.chat_template = CHAT_TEMPLATE
    return fast


def make_model_dir(directory: Path, kind: str = "llama") -> Path:
    make_model(kind).save_pretrained(directory)
    make_tokenizer().save_pretrained(directory)
    return directory


def llama_layout(dtype: str = "float32", max_rank: int = 4, fingerprint: str = "") -> AdapterLayout:
    """The engine's fused groups of the tiny Llama."""
    groups = []
    for i in range(2):
        layer = f"model.layers.{i}"
        shapes: list[tuple[str, int, dict[str, int]]] = [
            (
                "self_attn.qkv_proj",
                32,
                {"self_attn.q_proj": 32, "self_attn.k_proj": 16, "self_attn.v_proj": 16},
            ),
            ("self_attn.o_proj", 32, {"self_attn.o_proj": 32}),
            ("mlp.gate_up_proj", 32, {"mlp.gate_proj": 64, "mlp.up_proj": 64}),
            ("mlp.down_proj", 64, {"mlp.down_proj": 32}),
        ]
        for name, in_features, members in shapes:
            outs = tuple(Member(f"{layer}.{member}", out) for member, out in members.items())
            groups.append(Group(f"{layer}.{name}", in_features, outs))
    return AdapterLayout(fingerprint, dtype, max_rank, tuple(groups))
