"""LoRA adapters for tests: files as PEFT writes them, by hand and by PEFT itself."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from safetensors.numpy import save

from flora.layout import AdapterLayout
from flora.lora_files import lora_tensor_name
from flora.lora_layout import LoraLayout
from flora.lora_row import Factors

CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["a"]}


def make_config(**changes: Any) -> bytes:
    return json.dumps(CONFIG | changes).encode()


def make_lora_layout(base: AdapterLayout, rank: int = 8) -> LoraLayout:
    return LoraLayout(AdapterLayout(base.base_fingerprint, "float32", rank, base.groups))


def make_factors(
    layout: LoraLayout, rank: int = 2, seed: int = 0, scale: float = 0.3
) -> dict[str, Factors]:
    """A and B of every module of the layout."""
    rng = np.random.default_rng(seed)
    return {
        member.name: (
            rng.normal(0, scale, (rank, n_in)).astype(np.float32),
            rng.normal(0, scale, (n_out, rank)).astype(np.float32),
        )
        for member, (n_in, n_out) in zip(layout.members, layout.sizes, strict=True)
    }


def make_weights(factors: Mapping[str, Factors]) -> bytes:
    """The safetensors file of a LoRA."""
    tensors = {}
    for module, (a, b) in factors.items():
        tensors[lora_tensor_name(module, "A")] = np.ascontiguousarray(a)
        tensors[lora_tensor_name(module, "B")] = np.ascontiguousarray(b)
    return bytes(save(tensors, {"format": "pt"}))


def trained_by_peft(
    model: Any, folder: Path, seed: int = 0, steps: int = 3, **options: Any
) -> tuple[Any, bytes, bytes]:
    """PEFT's own model after a few steps, and what it has saved: weights and config.

    The base model that is given is changed: PEFT puts its layers into it.
    """
    torch.manual_seed(seed)
    tuned = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **options))
    # B is zero at first; these few steps alone would leave it so small that nothing is shown.
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    trainable = [p for p in tuned.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trainable, lr=0.1)
    ids = torch.randint(1, 250, (2, 16), generator=torch.Generator().manual_seed(seed))
    for _ in range(steps):
        optimizer.zero_grad()
        tuned(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    tuned.eval().save_pretrained(folder)
    weights = (folder / "adapter_model.safetensors").read_bytes()
    return tuned, weights, (folder / "adapter_config.json").read_bytes()
