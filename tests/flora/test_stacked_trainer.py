"""Adapters of one run are those of runs of their own; a broken run is the one that was not."""

from pathlib import Path

import pytest
import torch

from flora.adapter_data import AdapterData
from flora.causal_objective import CausalObjective
from flora.recipe import Recipe
from flora.stacked_trainer import TrainStep
from flora.train_data import Example
from tests.flora.learning import (
    assert_alike,
    assert_same,
    make_data,
    make_examples,
    make_trainer,
    tensors_of,
)

RECIPE = Recipe(max_steps=6, batch_size=3, num_warmup_steps=2, max_forward_tokens=64)


@pytest.mark.parametrize(
    ("kind", "rank", "recipe"),
    [
        ("llama", 1, RECIPE),
        ("llama", 2, Recipe(max_steps=9, max_epochs=1.5, batch_size=3, learning_rate=0.02)),
        ("gpt2", 1, RECIPE),
    ],
)
def test_a_batched_run_is_many_separate_ones(
    tmp_path: Path, kind: str, rank: int, recipe: Recipe
) -> None:
    data = make_data(8, 5, 11)
    together = make_trainer(tmp_path, data, recipe, kind=kind, rank=rank)
    before = together.heldout_losses(range(3))
    assert together.fit()
    for k, each in enumerate(data):
        alone = make_trainer(tmp_path, [each], recipe, kind=kind, rank=rank)
        assert alone.heldout_losses([0]) == pytest.approx([before[k]], rel=1e-5)
        assert alone.fit()
        assert together.adamw.num_steps[k] == alone.adamw.num_steps[0]
        assert_alike(tensors_of(together, k), tensors_of(alone, 0))
    assert together.heldout_losses(range(3)) != pytest.approx(before, rel=1e-5)


def test_each_adapter_learns_its_own(tmp_path: Path) -> None:
    """Two habits: each adapter's loss falls on its own and not on the other's."""
    habits = [make_examples(k, 12, start=40 * k, spread=4) for k in (1, 2)]
    data = [AdapterData(f"a{k}", habit[2:], habit[:2]) for k, habit in enumerate(habits)]
    trainer = make_trainer(tmp_path, data, Recipe(max_steps=25, batch_size=4, learning_rate=0.03))
    before = trainer.heldout_losses([0, 1])
    assert trainer.fit()
    assert all(a < b - 0.5 for a, b in zip(trainer.heldout_losses([0, 1]), before, strict=True))
    objective, model = CausalObjective(), trainer.model
    for k in (0, 1):
        own, other = (sum_of_losses(trainer, objective, model, k, d) for d in (k, 1 - k))
        assert own < other - 2


def sum_of_losses(trainer, objective, model, adapter, data) -> float:  # type: ignore[no-untyped-def]
    examples = trainer.data[data].heldout
    trainer.stack.select([adapter] * len(examples))
    with torch.no_grad():
        return float(objective.loss_sums(model, examples).sum())


@pytest.mark.parametrize("stop_at", [1, 4])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path, stop_at: int) -> None:
    data, steps = make_data(8, 5), list[TrainStep]()
    recipe = Recipe(max_steps=8, batch_size=3, num_warmup_steps=2, eval_steps=3, patience=9)
    whole = make_trainer(tmp_path / "whole", data, recipe)
    assert whole.fit()
    stopped = make_trainer(
        tmp_path / "broken",
        data,
        recipe,
        progress=steps.append,
        should_stop=lambda: steps[-1].step == stop_at,
    )
    assert not stopped.fit()
    resumed = make_trainer(tmp_path / "broken", data, recipe, progress=steps.append)
    assert resumed.fit(resume=True)
    assert [step.step for step in steps] == list(range(1, 9))
    assert resumed.stops.best == whole.stops.best
    assert resumed.adamw.num_steps == whole.adamw.num_steps == [8, 8]
    for k in (0, 1):
        assert_same(tensors_of(resumed, k), tensors_of(whole, k))


def test_a_run_that_was_over_is_not_gone_on_with(tmp_path: Path) -> None:
    data, steps = make_data(6), list[TrainStep]()
    whole = make_trainer(tmp_path, data, RECIPE)
    assert whole.fit()  # it leaves a checkpoint of its last step
    again = make_trainer(tmp_path, data, RECIPE, progress=steps.append)
    assert again.fit(resume=True)
    assert steps == []
    assert again.adamw.num_steps == [RECIPE.max_steps]
    assert_same(tensors_of(again, 0), tensors_of(whole, 0))


def test_an_adapter_that_gets_no_better_stops_at_its_best(tmp_path: Path) -> None:
    """Adapter 1 is judged by what it does not learn; adapter 0 goes on alone."""
    habit = make_examples(1, 12, start=40, spread=4)
    spoilt = AdapterData("spoilt", habit, make_examples(5, 4, start=150, spread=90))
    data: list[AdapterData[Example]] = [AdapterData("good", habit[2:], habit[:2]), spoilt]
    recipe = Recipe(
        max_steps=30, batch_size=4, learning_rate=0.02, eval_steps=2, patience=2, num_warmup_steps=0
    )
    steps = list[TrainStep]()
    trainer = make_trainer(tmp_path, data, recipe, progress=steps.append)
    assert trainer.fit()
    num_steps = trainer.adamw.num_steps
    assert num_steps[0] > num_steps[1]
    assert num_steps[1] % recipe.eval_steps == 0
    assert [step.num_adapters for step in steps].count(2) == num_steps[1]
    assert trainer.heldout_losses([0, 1]) == pytest.approx(trainer.stops.best, rel=1e-5)
    alone = make_trainer(tmp_path, [spoilt], recipe)
    assert alone.fit()
    assert alone.adamw.num_steps[0] == num_steps[1]
    assert_alike(tensors_of(trainer, 1), tensors_of(alone, 0))


def test_one_adapters_overflow_is_nobody_elses(tmp_path: Path) -> None:
    data = make_data(8, 5)
    trainer, alone = make_trainer(tmp_path, data, RECIPE), make_trainer(tmp_path, data[:1], RECIPE)
    with torch.no_grad():
        next(iter(trainer.stack.parameters.values()))[1] = torch.inf
    assert trainer.fit()
    assert alone.fit()
    assert trainer.adamw.num_steps == [6, 0]
    assert_alike(tensors_of(trainer, 0), tensors_of(alone, 0))


def test_recomputing_activations_changes_nothing(tmp_path: Path) -> None:
    runs, num_calls = [], [0, 0]
    for is_on in (False, True):
        recipe = Recipe(max_steps=3, batch_size=3, gradient_checkpointing=is_on)
        runs.append(make_trainer(tmp_path, make_data(8, 5), recipe))
        layer = runs[-1].stack.layers["model.layers.0.self_attn.q_proj"]

        def count(*unused: object, run: int = int(is_on)) -> None:
            num_calls[run] += 1

        layer.register_forward_hook(count)
        assert runs[-1].fit()
    assert num_calls[1] == 2 * num_calls[0] > 0
    for k in (0, 1):
        assert_alike(tensors_of(runs[0], k), tensors_of(runs[1], k), atol=1e-6)


def test_short_numbers_and_what_is_told(tmp_path: Path) -> None:
    steps, data = list[TrainStep](), make_data(8, 5)
    recipe = Recipe(max_steps=4, batch_size=8, eval_steps=2, checkpoint_steps=0)
    trainer = make_trainer(tmp_path, data, recipe, progress=steps.append, dtype=torch.bfloat16)
    assert trainer.fit()
    assert [(s.step, s.max_steps, s.num_adapters) for s in steps] == [
        (i, 4, 2) for i in (1, 2, 3, 4)
    ]
    assert [s.heldout_loss is None for s in steps] == [True, True, False, False]
    num_tokens = sum(len(e.token_ids) for e in (*data[0].learned, *data[1].learned))
    assert steps[0].num_tokens == num_tokens
    assert all(p.dtype == torch.float32 for p in trainer.stack.parameters.values())
    assert not list(tmp_path.glob("checkpoint-*"))
