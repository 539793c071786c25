"""Adapters that PEFT itself has written, on tiny random models."""

import warnings
from pathlib import Path
from typing import Any

import torch
from peft import IA3Config, LoraConfig, get_peft_model

from tests.flora.models import make_model

IDS = torch.arange(24).reshape(2, 12) * 7 % 250


def save_random(config: Any, folder: Path, kind: str = "llama", scale: float = 0.3) -> torch.Tensor:
    """Writes an adapter of random numbers; the logits of IDS by PEFT's own model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(make_model(kind), config).eval()
        torch.manual_seed(1)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                start = 1.0 if "ia3" in name else 0.0
                parameter.data = start + scale * torch.randn_like(parameter)
        model.save_pretrained(folder)
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=IDS).logits
    return logits


def lora_config(**changes: Any) -> LoraConfig:
    options: dict[str, Any] = {"r": 4, "lora_alpha": 6, "target_modules": "all-linear"}
    return LoraConfig(**options | changes)


def ia3_config(**changes: Any) -> IA3Config:
    options: dict[str, Any] = {
        "target_modules": ["k_proj", "v_proj", "down_proj"],
        "feedforward_modules": ["down_proj"],
    }
    return IA3Config(**options | changes)
