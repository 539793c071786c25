"""What a run refuses before it reads anything."""

from pathlib import Path
from typing import Any

import pytest

from contracts.errors import InvalidRequest
from flora.recipe import Recipe
from flora.train_config import TrainConfig


@pytest.mark.parametrize(
    "change", [{"rank": 0}, {"max_length_tokens": 1}, {"heldout_fraction": 1.0}]
)
def test_configs_out_of_range(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        TrainConfig(Path(), (), Path(), **change)
    assert refused.value.param in change


@pytest.mark.parametrize(
    "change",
    [
        {"max_steps": 0},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"max_gradient_norm": -1.0},
        {"num_warmup_steps": -1},
        {"max_epochs": 0.0},
        {"max_forward_tokens": 0},
        {"checkpoint_steps": -1},
        {"patience": 2},
    ],
)
def test_recipes_out_of_range(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Recipe(**change)
    assert refused.value.param in change
