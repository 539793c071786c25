"""Small runs of the stacked trainer for its tests."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flora.adapter_data import AdapterData
from flora.causal_objective import CausalObjective
from flora.recipe import Recipe
from flora.stacked_adapters import StackedAdapters
from flora.stacked_trainer import Progress, StackedTrainer
from flora.train_data import Example
from tests.flora.models import make_model

Tensors = dict[str, torch.Tensor]


def make_examples(
    seed: int = 0, count: int = 8, start: int = 0, spread: int = 250
) -> list[Example]:
    """Sequences of 6 to 14 tokens, the first four no targets."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(6, 15, count)
    rows = [tuple((start + rng.integers(0, spread, n)).tolist()) for n in lengths]
    return [Example(row, (False,) * 4 + (True,) * (len(row) - 4)) for row in rows]


def make_data(*counts: int) -> list[AdapterData[Example]]:
    """One adapter's data for each count, different ones."""
    return [
        AdapterData(f"a{k}", make_examples(k, count), make_examples(100 + k, 3))
        for k, count in enumerate(counts)
    ]


def make_trainer(
    folder: Path,
    data: Sequence[AdapterData[Example]],
    recipe: Recipe,
    *,
    rank: int = 1,
    kind: str = "llama",
    progress: Progress = lambda step: None,
    should_stop: Callable[[], bool] = lambda: False,
    dtype: torch.dtype = torch.float32,
) -> StackedTrainer[Example]:
    model: Any = make_model(kind).to(dtype)
    stack = StackedAdapters(model, len(data), rank, seed=recipe.seed)
    objective = CausalObjective()
    return StackedTrainer(
        model, stack, objective, data, recipe, folder, progress, lambda: 0.0, should_stop
    )


def tensors_of(trainer: StackedTrainer[Example], adapter: int) -> Tensors:
    """What an adapter has become."""
    return {n: p.detach()[adapter].clone() for n, p in trainer.stack.parameters.items()}


def assert_alike(one: Tensors, other: Tensors, atol: float = 2e-5) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=1e-3, atol=atol, msg=name)


def assert_same(one: Tensors, other: Tensors) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
