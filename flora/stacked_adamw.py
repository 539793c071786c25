"""AdamW for a stack of adapters that are not all in every step. Knows no model and no layer."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn

from flora.learning_rate import LearningRate

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


class StackedAdamW(torch.optim.Optimizer):
    """AdamW without weight decay on parameters [adapters, ...], each adapter as if it were alone.

    Moments, step count, and learning rate are each adapter's own. Before a step `present` has to
    say which adapters it is for: bool [adapters]. The others keep every number, where a plain
    AdamW would go on moving them by momentum. Source: Loshchilov & Hutter 2019, algorithm 2;
    `torch.optim.AdamW` is its oracle.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], rate: LearningRate) -> None:
        super().__init__(parameters, {"lr": rate.peak})
        self._rate = rate
        self.present = torch.zeros(len(rate.num_steps), dtype=torch.bool)

    @property
    def num_steps(self) -> list[int]:
        """Steps that each adapter has made."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter in self.state:
                    return [int(count) for count in self.state[parameter]["count"].tolist()]
        return [0] * len(self._rate.num_steps)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step of the adapters that are `present`; `closure` is not used."""
        counts = self.num_steps
        rates = [self._rate.at(k, count) for k, count in enumerate(counts)]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, rates)

    def _update(self, p: nn.Parameter, gradient: torch.Tensor, rates: Sequence[float]) -> None:
        state = self.state[p]
        if not state:
            state["count"] = torch.zeros(len(p), device=p.device)
            state["mean"] = torch.zeros_like(p)
            state["square"] = torch.zeros_like(p)
        rows = self.present.to(p.device).nonzero().squeeze(1)
        shape = (-1, *(1 for _ in range(p.dim() - 1)))
        gradient = gradient[rows]
        state["count"][rows] += 1
        mean = state["mean"][rows].lerp(gradient, 1 - BETA_1)
        square = state["square"][rows] * BETA_2 + (1 - BETA_2) * gradient * gradient
        state["mean"][rows], state["square"][rows] = mean, square
        step = state["count"][rows].double().view(shape)
        rate = torch.tensor(rates, dtype=torch.float64, device=p.device)[rows].view(shape)
        size = (rate / (1 - BETA_1**step)).to(p.dtype)
        root = (1 - BETA_2**step).sqrt().to(p.dtype)
        p[rows] -= size * mean / (square.sqrt() / root + EPSILON)


@torch.no_grad()
def clip_each(parameters: Iterable[nn.Parameter], max_norm: float) -> torch.Tensor:
    """Scales the gradients of each adapter down to `max_norm`; which have finite ones: bool.

    Gradients that are not finite become zero, so that one adapter's overflow stays its own. Each
    adapter's gradients are those of `torch.nn.utils.clip_grad_norm_` on that adapter alone.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    squares = [g.flatten(1).double().pow(2).sum(1) for g in gradients]
    norms = torch.stack(squares).sum(0).sqrt()
    is_finite = norms.isfinite()
    scale = (max_norm / (norms + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        shape = (-1, *(1 for _ in range(gradient.dim() - 1)))
        gradient.mul_(torch.where(is_finite, scale, 0).to(gradient.dtype).view(shape))
        gradient[~is_finite] = 0
    return is_finite
