"""From which rank on LoRA by batched products is quicker than fLoRA: predicted, and measured.

Wen & Chaudhuri (ICLR 2024), section 3: a product of b * l tokens with a d x d matrix takes
c2 * b * l * d^2, the two batched products of LoRA take 2 * c1 * b * l * d * r. fLoRA of rank r is r
products with the shared matrix. So fLoRA is no slower as long as

    2 c1 d b l r + c2 b l d^2 >= c2 r b l d^2,    that is    2 c1 / (d c2) + 1 / r >= 1.

Layers are not square here. With P multiplications of a token with all weights, and S = the sum of
in + out over all LoRA members, the same steps give c1 S / (c2 P) + 1 / r >= 1: the paper's line
with d = 2 P / S. Knows no engine.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import torch

from benchmarks.bmm_lora import Factors, add_bmm_lora
from benchmarks.paper_models import PaperModel

_BLOCKS = 2
_REPEATS = 3


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds a multiplication: `bmm_s` is c1, `mm_s` is c2; `width` is d.

    `products_rank` is the crossover of the very times that c1 and c2 were made of: what is left
    of the prediction when products need not cost in proportion to their rows.
    """

    bmm_s: float
    mm_s: float
    width: float
    products_rank: float

    @property
    def rank(self) -> float:
        """The highest rank at which the inequality holds; infinite where it always does."""
        kept = 1 - 2 * self.bmm_s / (self.width * self.mm_s)
        return 1 / kept if kept > 0 else math.inf


def measured_rank(ranks: Sequence[int], ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Where our speed falls below theirs for the first time; infinite if it never does.

    Between two ranks log2(ours / theirs) is a straight line over log2(rank). The first rank if we
    are below there.
    """
    leads = [math.log2(own / other) for own, other in zip(ours, theirs, strict=True)]
    if leads[0] < 0:
        return float(ranks[0])
    for i in range(1, len(ranks)):
        if leads[i] < 0:
            part = leads[i - 1] / (leads[i - 1] - leads[i])
            return float(ranks[i - 1] * (ranks[i] / ranks[i - 1]) ** part)
    return math.inf


def slope(sizes: Sequence[float], times_s: Sequence[float]) -> float:
    """Seconds a unit: least squares of a line through the origin."""
    return sum(x * t for x, t in zip(sizes, times_s, strict=True)) / sum(x * x for x in sizes)


def measure_costs(
    model: PaperModel,
    ranks: Sequence[int],
    num_tokens: Mapping[int, float],
    device: str,
    clock: Callable[[], float] = perf_counter,
) -> Costs:
    """c1 and c2 of the model's own layers, bfloat16.

    `num_tokens`: sizes of steps, and which share of all tokens goes through such steps. `ranks`
    begin with 1. c2 is the slope of the time of products of r * num_tokens rows with the weights,
    c1 that of `add_bmm_lora` at rank r with an adapter a token, gathering included, each over all
    `ranks`.
    """
    blocks = min(_BLOCKS, model.num_layers)
    layers = _Layers(model, blocks, max(num_tokens), max(ranks), device)
    products = model.num_products * blocks / model.num_layers
    numbers = model.num_pair_numbers * blocks / model.num_layers
    bmm_s = mm_s = 0.0
    ours_s, theirs_s = [0.0 for _ in ranks], [0.0 for _ in ranks]
    for tokens, share in num_tokens.items():
        sizes = [tokens * rank for rank in ranks]
        dense_s = [_time_s(partial(layers.multiply, n), device, clock) for n in sizes]
        lora_s = [_time_s(partial(layers.add, tokens, rank), device, clock) for rank in ranks]
        mm_s += share * slope([n * products for n in sizes], dense_s)
        bmm_s += share * slope([n * numbers for n in sizes], lora_s)
        for i in range(len(ranks)):  # a token's part, so that shares are of tokens
            ours_s[i] += share * dense_s[i] / tokens
            theirs_s[i] += share * (dense_s[0] + lora_s[i]) / tokens
    speeds = [[1 / time_s for time_s in times] for times in (ours_s, theirs_s)]
    return Costs(bmm_s, mm_s, 2 * products / numbers, measured_rank(ranks, *speeds))


class _Layers:
    """The linear layers of some blocks, and LoRA factors for each with a slot a token."""

    def __init__(
        self, model: PaperModel, blocks: int, num_tokens: int, rank: int, device: str
    ) -> None:
        sizes = [size for _ in range(blocks) for size in model.modules().values()]
        make = {"dtype": torch.bfloat16, "device": device}
        self._weights = [torch.randn(n_out, n_in, **make) for n_in, n_out in sizes]  # type: ignore[call-overload]
        # One layer's factors serve all: they are more than the caches hold, and fit a small device.
        n_in, n_out = (max(size[i] for size in sizes) for i in (0, 1))
        slots = num_tokens + 1
        self._a = torch.randn(slots * rank * n_in, **make)  # type: ignore[call-overload]
        self._b = torch.randn(slots * rank * n_out, **make)  # type: ignore[call-overload]
        self._sizes, self._slots = sizes, torch.arange(1, slots, device=device)
        self._x = torch.randn(num_tokens * rank, n_in, **make)  # type: ignore[call-overload]
        self._y = torch.zeros(num_tokens, n_out, **make)  # type: ignore[call-overload]

    def multiply(self, num_rows: int) -> None:
        for weight in self._weights:
            torch.nn.functional.linear(self._x[:num_rows, : weight.shape[1]], weight)

    def add(self, num_tokens: int, rank: int) -> None:
        for n_in, n_out in self._sizes:
            x, y = self._x[:num_tokens, :n_in], self._y[:num_tokens, :n_out]
            add_bmm_lora(y, x, self._factors(rank, n_in, n_out), self._slots[:num_tokens])

    def _factors(self, rank: int, n_in: int, n_out: int) -> Factors:
        """As LoraSlab has them: B transposed in memory on a CPU."""
        slots = len(self._slots) + 1
        a = self._a[: slots * rank * n_in].view(slots, 1, rank, n_in)
        flat = self._b[: slots * rank * n_out]
        if flat.device.type == "cpu":
            return [(a, flat.view(slots, 1, rank, n_out).transpose(2, 3))]
        return [(a, flat.view(slots, 1, n_out, rank))]


def _time_s(work: Callable[[], None], device: str, clock: Callable[[], float]) -> float:
    """The quickest of a few calls: what else a machine does only ever adds time."""
    times = []
    for _ in range(_REPEATS + 1):
        started_s = clock()
        work()
        if device != "cpu":
            torch.accelerator.synchronize()
        times.append(clock() - started_s)
    return min(times[1:])
