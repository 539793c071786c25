"""The fLoRA pairs nearest to another weight, by alternating least squares. Knows no model.

Minimises the mean square of the difference of outputs over inputs with second moments C,

    L(A, B) = tr E C E',   E = W o (A' B) - T,   W, T: [out, in], A: [rank, out], B: [rank, in].

L is quadratic in A and in each row of B, so that each update has a closed form and none raises L.
"""

from dataclasses import dataclass

import torch

_PROXIMITY = 1e-7
_POWER_STEPS = 8


@dataclass(frozen=True, slots=True)
class Pairs:
    """Full values, pair 0 included: b [rank, in], a [rank, out]."""

    b: torch.Tensor
    a: torch.Tensor


@dataclass(frozen=True, slots=True)
class Problem:
    """`weight` and `target` [out, in], `moment` [in, in], all float64."""

    weight: torch.Tensor
    target: torch.Tensor
    moment: torch.Tensor

    def error(self, pairs: Pairs) -> torch.Tensor:
        """E [out, in]."""
        return self.weight * (pairs.a.T @ pairs.b) - self.target

    def loss(self, pairs: Pairs) -> float:
        """L: the mean squared length of the outputs' difference."""
        error = self.error(pairs)
        return float(((error @ self.moment) * error).sum())


def fit(problem: Problem, rank: int, num_sweeps: int, seed: int) -> Pairs:
    """From the identity, adds pair after pair, then goes over all of them `num_sweeps` times."""
    out_features, in_features = problem.weight.shape
    ones = [torch.ones(1, n, dtype=torch.float64) for n in (in_features, out_features)]
    pairs = Pairs(*ones)
    generator = torch.Generator().manual_seed(seed)
    for number in range(1, rank):
        pairs = update_a(problem, with_pair(problem, pairs, generator))
        pairs = update_b(problem, pairs, number)
    for _ in range(num_sweeps):
        pairs = update_a(problem, pairs)
        for j in range(rank):
            pairs = update_b(problem, pairs, j)
    return update_a(problem, pairs)


def update_a(problem: Problem, pairs: Pairs) -> Pairs:
    """The best A for this B: one system of size rank for each output."""
    scaled = problem.weight * pairs.b[:, None, :]  # [rank, out, in]
    seen = scaled @ problem.moment
    system = torch.einsum("joi,koi->ojk", seen, scaled)
    right = torch.einsum("joi,oi->oj", seen, problem.target)
    return Pairs(pairs.b, _solve(system, right, pairs.a.T).T.contiguous())


def update_b(problem: Problem, pairs: Pairs, j: int) -> Pairs:
    """The best row j of B for the rest: one system of the size of the input."""
    rows = problem.weight * pairs.a[j][:, None]
    others = torch.ones(len(pairs.a), dtype=torch.bool)
    others[j] = False
    rest = Pairs(pairs.b[others], pairs.a[others])
    system = (rows.T @ rows) * problem.moment
    right = -(rows * (problem.error(rest) @ problem.moment)).sum(0)
    b = pairs.b.clone()
    b[j] = _solve(system[None], right[None], b[j][None])[0]
    return Pairs(b, pairs.a)


def with_pair(problem: Problem, pairs: Pairs, generator: torch.Generator) -> Pairs:
    """One more pair: A is zero, B the direction in which L falls fastest from there."""
    slope = problem.weight * (problem.error(pairs) @ problem.moment)
    b = torch.randn(slope.shape[1], generator=generator, dtype=torch.float64)
    for _ in range(_POWER_STEPS):
        b = slope.T @ (slope @ b)
        b = b / b.norm().clamp_min(torch.finfo(b.dtype).tiny)
    b = b * slope.shape[1] ** 0.5
    return Pairs(torch.cat([pairs.b, b[None]]), torch.cat([pairs.a, torch.zeros_like(pairs.a[:1])]))


def _solve(system: torch.Tensor, right: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """Solves [n, k, k] x = [n, k]. A little is paid for each step away from `before`.

    That keeps a singular system solvable, and L from rising, whatever it holds.
    """
    size = system.shape[-1]
    near = _PROXIMITY * system.diagonal(dim1=1, dim2=2).mean(1) + torch.finfo(system.dtype).tiny
    raised = system + near[:, None, None] * torch.eye(size, dtype=system.dtype)
    gap = right - (system @ before[..., None])[..., 0]
    factor, failed = torch.linalg.cholesky_ex(raised)
    step = torch.cholesky_solve(gap[..., None], factor)[..., 0]
    usable = (failed == 0) & torch.isfinite(step).all(1)
    return torch.where(usable[:, None], before + step, before)
