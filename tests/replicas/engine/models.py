"""Models for the engine tests: the demo model, and tiny random ones that vLLM's kernels accept."""

import warnings
from pathlib import Path
from typing import Any

import torch
from compressed_tensors.compressors.pack_quantized.helpers import (  # type: ignore[import-untyped]
    pack_to_int32,
)
from safetensors.torch import save_file
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
        max_position_embeddings=512,
        initializer_range=0.1,
        bos_token_id=None,
        eos_token_id=256,
    ),
    "biased_llama": LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=256,
        intermediate_size=320,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.1,
        attention_bias=True,
        mlp_bias=True,
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


def make_int4(folder: Path) -> tuple[Path, Path]:
    """The tiny Llama with 4-bit weights, twice: packed for vLLM, and widened for the oracle.

    Scales are powers of two, so both hold exactly the same numbers.
    """
    plain = make_tiny("llama", folder / "plain")
    model = AutoModelForCausalLM.from_pretrained(plain, dtype=torch.float32)
    packed: dict[str, torch.Tensor] = {}
    for name, module in model.model.named_modules():
        if isinstance(module, torch.nn.Linear):
            levels, scale = _quantise(module.weight.detach())
            module.weight.data = (levels * scale[..., None]).flatten(1)
            packed |= _pack(f"model.{name}", levels.flatten(1).to(torch.int8), scale)
    model.save_pretrained(plain)
    kept = {
        k: v
        for k, v in model.state_dict().items()
        if k.replace("weight", "weight_packed") not in packed
    }
    target = folder / "packed"
    model.config.quantization_config = _INT4
    model.config.save_pretrained(target)
    make_tokenizer().save_pretrained(target)
    tensors = {k: v.to(torch.bfloat16).contiguous().clone() for k, v in kept.items()}
    save_file(tensors | packed, target / "model.safetensors", {"format": "pt"})
    return target, plain


_GROUP_SIZE = 32
_INT4 = {
    "quant_method": "compressed-tensors",
    "format": "pack-quantized",
    "quantization_status": "compressed",
    "ignore": ["lm_head"],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {
                "num_bits": 4,
                "type": "int",
                "symmetric": True,
                "strategy": "group",
                "group_size": _GROUP_SIZE,
            },
        }
    },
}


def _quantise(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Levels -8..7 [out, groups, group size] and power-of-two scales [out, groups]."""
    grouped = weight.reshape(len(weight), -1, _GROUP_SIZE)
    scale = torch.exp2(torch.ceil(torch.log2(grouped.abs().amax(-1) / 7)))
    return (grouped / scale[..., None]).round().clamp(-8, 7), scale


def _pack(name: str, levels: torch.Tensor, scale: torch.Tensor) -> dict[str, torch.Tensor]:
    return {
        f"{name}.weight_packed": pack_to_int32(levels, 4).contiguous(),
        f"{name}.weight_scale": scale.to(torch.bfloat16).contiguous(),
        f"{name}.weight_shape": torch.tensor(levels.shape),
    }
