from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flora.convert.closed_form import Pairs, Problem, fit, update_a, update_b, with_pair


def make_problem(seed: int, out: int = 7, size: int = 5, num_inputs: int = 9) -> Problem:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    weight, inputs = draw(out, size), draw(num_inputs, size)
    return Problem(weight, weight + 0.3 * draw(out, size), inputs.T @ inputs / num_inputs)


def make_pairs(problem: Problem, rank: int, seed: int) -> Pairs:
    generator = torch.Generator().manual_seed(seed)
    sizes = problem.weight.shape
    draws = [torch.randn(rank, n, generator=generator, dtype=torch.float64) for n in sizes]
    return Pairs(draws[1], draws[0])


CASES = st.tuples(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 9))


@settings(max_examples=15, deadline=None)
@given(CASES)
def test_no_update_raises_the_loss(case: tuple[int, int, int]) -> None:
    seed, rank, num_inputs = case
    problem = make_problem(seed, num_inputs=num_inputs)  # fewer inputs than features: singular
    pairs = make_pairs(problem, rank, seed + 1)
    losses = [problem.loss(pairs)]
    for _ in range(3):
        pairs = update_a(problem, pairs)
        losses.append(problem.loss(pairs))
        for j in range(rank):
            pairs = update_b(problem, pairs, j)
            losses.append(problem.loss(pairs))
    target = problem.target
    rounding = 1e-10 * float(((target @ problem.moment) * target).sum())
    assert all(b <= a * (1 + 1e-9) + rounding for a, b in pairwise(losses))


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_updates_are_where_a_numeric_optimiser_ends(rank: int) -> None:
    problem = make_problem(rank)
    pairs = make_pairs(problem, rank, 3)
    assert torch.allclose(update_a(problem, pairs).a, numeric(problem, pairs, "a"), atol=1e-4)
    expected = numeric(problem, pairs, "b")
    assert torch.allclose(update_b(problem, pairs, 0).b[0], expected, atol=1e-4)


def numeric(problem: Problem, pairs: Pairs, side: str) -> torch.Tensor:
    """The minimum over A, or over the first row of B, by LBFGS on the definition."""
    start = pairs.a if side == "a" else pairs.b[0]
    free = start.clone().requires_grad_(True)
    solver = torch.optim.LBFGS(
        [free],
        max_iter=500,
        tolerance_grad=1e-12,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def loss() -> torch.Tensor:
        solver.zero_grad()
        a = free if side == "a" else pairs.a
        b = pairs.b if side == "a" else torch.cat([free[None], pairs.b[1:]])
        error = problem.weight * (a.T @ b) - problem.target
        value = torch.einsum("oi,ij,oj->", error, problem.moment, error)
        torch.autograd.backward(value)
        return value

    solver.step(loss)  # type: ignore[no-untyped-call]
    return free.detach()


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 2))
def test_what_has_the_form_is_found(seed: int, rank: int) -> None:
    problem = make_problem(seed, out=12, size=8, num_inputs=30)
    true = make_pairs(problem, rank, seed)
    true = Pairs(torch.cat([1 + 0.2 * true.b[:1], true.b[1:]]), 1 + 0.2 * true.a)
    exact = Problem(problem.weight, problem.weight * (true.a.T @ true.b), problem.moment)
    before = exact.loss(Pairs(torch.ones(1, 8).double(), torch.ones(1, 12).double()))
    assert exact.loss(fit(exact, rank, 20, seed=0)) < 0.02 * before


def test_more_pairs_fit_better() -> None:
    problem = make_problem(5, out=20, size=12, num_inputs=40)
    losses = [problem.loss(fit(problem, rank, 4, seed=0)) for rank in (1, 2, 4)]
    assert losses[0] > losses[1] > losses[2]


def test_a_new_pair_changes_nothing_yet() -> None:
    problem = make_problem(1)
    pairs = make_pairs(problem, 1, 2)
    more = with_pair(problem, pairs, torch.Generator().manual_seed(0))
    assert more.b.shape == (2, 5)
    assert problem.loss(more) == pytest.approx(problem.loss(pairs))
