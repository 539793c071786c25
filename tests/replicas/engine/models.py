"""Models for the engine tests: the demo model, and tiny random ones that vLLM's kernels accept."""

import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPTBigCodeConfig, LlamaConfig

from tests.flora.models import VOCAB_SIZE, make_tokenizer

SMOLLM2 = Path(__file__).resolve().parents[3] / "models" / "smollm2-135m-instruct"
"""Made by `make setup`."""

# Heads of 64: the smallest that every CPU attention kernel of vLLM takes.
CONFIGS: dict[str, Any] = {
    "llama": LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=256,
        intermediate_size=320,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.1,
        bos_token_id=None,
        eos_token_id=256,
    ),
    "gpt2": GPT2Config(
        vocab_size=VOCAB_SIZE,
        n_embd=128,
        n_layer=2,
        n_head=2,
        n_positions=128,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=256,
    ),
    "gpt_bigcode": GPTBigCodeConfig(
        vocab_size=VOCAB_SIZE,
        n_embd=128,
        n_layer=2,
        n_head=2,
        n_positions=128,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=256,
    ),
}


def make_tiny(kind: str, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    """Save a tiny random model with its byte tokenizer; the same one every time."""
    torch.manual_seed(1)
    with warnings.catch_warnings():
        # GPT-BigCode's module compiles a function by torch.jit as it is imported.
        warnings.simplefilter("ignore", DeprecationWarning)
        model = AutoModelForCausalLM.from_config(CONFIGS[kind]).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):  # zero by default, which would hide a bias that is scaled
            torch.nn.init.normal_(parameter, std=0.1)
    model.to(dtype).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder
