"""LoRAs on the tiny model, as PEFT's folders."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from flora.eval.adapted_weights import base_weight
from flora.linear import linear_modules
from tests.flora.models import make_model


def save_lora(folder: Path, pairs: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> Path:
    """A: [r, in] and B: [out, r] by module, scaling one."""
    rank = next(iter(pairs.values()))[0].shape[0]
    tensors = {}
    for module, (a, b) in pairs.items():
        tensors[f"base_model.model.{module}.lora_A.weight"] = a.float().contiguous()
        tensors[f"base_model.model.{module}.lora_B.weight"] = b.float().contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def representable_lora(folder: Path, num_rows: int = 4) -> Path:
    """W + B A = diag(a) W on layers of the tiny Llama, where a differs from one in `num_rows`.

    (diag(a) - 1) W has that rank: row i of A is a row of W, B puts it back where it was.
    """
    generator = torch.Generator().manual_seed(0)
    pairs = {}
    for name, linear in linear_modules(make_model()).items():
        weight = base_weight(linear)
        rows = torch.randperm(len(weight), generator=generator)[:num_rows]
        b = torch.zeros(len(weight), num_rows)
        b[rows, torch.arange(num_rows)] = torch.randn(num_rows, generator=generator)
        pairs[name] = (weight[rows], b)
    return save_lora(folder, pairs)


def random_lora(folder: Path, rank: int = 4, scale: float = 0.1) -> Path:
    generator = torch.Generator().manual_seed(0)
    pairs = {}
    for name, linear in linear_modules(make_model()).items():
        out_features, in_features = base_weight(linear).shape
        a = torch.randn(rank, in_features, generator=generator)
        pairs[name] = (scale * a, torch.randn(out_features, rank, generator=generator))
    return save_lora(folder, pairs)
