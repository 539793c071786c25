"""Tiny models with FLORA adapters, and what to ask them."""

from typing import Any

import torch
from peft import get_peft_model
from torch import nn

from flora.peft import FloraConfig
from flora.peft.config import PAPER_LEARNING_RATE
from tests.flora.models import make_model

IDS = torch.arange(12).reshape(3, 4)


def make_tuned(kind: str = "llama", seed: int = 1, adapter: str = "default", **options: Any) -> Any:
    """A tiny model with one random adapter, which `init_weights=True` makes the identity."""
    model = make_model(kind)
    torch.manual_seed(seed)
    config = FloraConfig(**({"init_weights": False} | options))
    return get_peft_model(model, config, adapter_name=adapter).eval()


def add_random(model: Any, name: str, seed: int = 2, **options: Any) -> None:
    torch.manual_seed(seed)
    model.add_adapter(name, FloraConfig(**({"init_weights": False} | options)))


def logits(model: Any, **arguments: Any) -> torch.Tensor:
    """[3, 4, vocabulary], of three different rows."""
    with torch.no_grad():
        result: torch.Tensor = model(input_ids=IDS, **arguments).logits
    return result


def train_steps(model: Any, num_steps: int = 3, learning_rate: float = PAPER_LEARNING_RATE) -> None:
    """A few steps on IDS, on what the model says is trainable."""
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.0)
    for _ in range(num_steps):
        optimizer.zero_grad()
        model(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
    model.eval()


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model(input_ids=IDS, labels=IDS).loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
