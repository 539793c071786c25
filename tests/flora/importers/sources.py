"""Adapters that PEFT itself has trained, in its own files."""

from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, get_peft_model
from torch import nn

from flora.importers.source import Source
from tests.flora.adapters import LIMITS
from tests.flora.models import make_model
from tests.flora.peft.tuned import train_steps


def biased_model(kind: str, seed: int = 0) -> Any:
    """A tiny model; biases, where the kind has them, are no zeros."""
    model = make_model(kind, seed)
    for name, parameter in model.named_parameters():
        if name.endswith(".bias"):
            nn.init.normal_(parameter, std=0.1)
    return model


def trained(kind: str, config: PeftConfig, folder: Path, seed: int = 0) -> Any:
    """PEFT's model after a few steps, saved into `folder`."""
    model = get_peft_model(biased_model(kind, seed), config)
    train_steps(model, num_steps=6, learning_rate=0.05)
    model.save_pretrained(folder)
    return model


def opened(folder: Path) -> Source:
    return Source.open(folder, LIMITS)


def changed_most(model: Any) -> float:
    """By how much an adapter moves the logits."""
    ids = torch.arange(12).reshape(3, 4)
    with torch.no_grad():
        tuned = model(input_ids=ids).logits
        with model.disable_adapter():
            return float((tuned - model(input_ids=ids).logits).abs().max())
