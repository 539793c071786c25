"""Every pass sees every example once, in an order that is nobody else's business."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from flora.recipe import Recipe
from flora.step_plan import StepPlan

COUNTS = st.lists(st.integers(1, 40), min_size=1, max_size=4)


@given(COUNTS, st.integers(1, 9), st.integers(0, 3))
def test_a_pass_is_every_example_once(counts: list[int], batch_size: int, seed: int) -> None:
    plan = StepPlan(tuple(counts), Recipe(batch_size=batch_size, seed=seed))
    for k, count in enumerate(counts):
        num_steps = -(-count // batch_size)
        passes = [
            [i for step in range(num_steps) for i in plan.indices(k, begin + step)]
            for begin in (0, num_steps)
        ]
        for seen in passes:
            assert Counter(seen) == Counter(range(count))
        alone = StepPlan((count,), Recipe(batch_size=batch_size, seed=seed))
        assert plan.indices(k, num_steps) == alone.indices(0, num_steps)


def test_shuffles_differ_by_pass_and_by_seed() -> None:
    plan = StepPlan((30,), Recipe(batch_size=30))
    orders = [plan.indices(0, step) for step in range(3)]
    orders.append(StepPlan((30,), Recipe(batch_size=30, seed=1)).indices(0, 0))
    assert len({tuple(order) for order in orders}) == 4


@given(COUNTS, st.floats(0.1, 5))
def test_steps_end_with_the_data_or_with_the_recipe(counts: list[int], epochs: float) -> None:
    plan = StepPlan(tuple(counts), Recipe(max_steps=12, batch_size=4, max_epochs=epochs))
    for count, num_steps in zip(counts, plan.num_steps, strict=True):
        per_pass = -(-count // 4)
        assert 1 <= num_steps <= 12
        assert num_steps == 12 or num_steps - 1 < epochs * per_pass <= num_steps
    assert StepPlan(tuple(counts), Recipe(max_steps=12)).num_steps == (12,) * len(counts)
