"""The method by its definition: one token, one pair at a time, in float64."""

import struct
from collections.abc import Sequence

import torch

from replicas.slab import Slab

Pair = tuple[torch.Tensor, torch.Tensor]


def pairs_of(slab: Slab, slot: int, group: int) -> list[Pair]:
    """The full values (B, A) of a slot's pairs on a group, the dense one first."""
    layout = slab.layout
    extra_pairs = [int(n) for n in slab.extra_pairs[slot]]
    width, start = layout.pair_width(group), layout.extra_offsets(extra_pairs)[group]
    (b, a), *rest = [
        _pair(slab, slot, group, begin)
        for begin in (
            layout.beta_offset(group),
            *(start + j * width for j in range(extra_pairs[group])),
        )
    ]
    return [(b + 1, a + 1), *rest]


def scaled_inputs(slab: Slab, slots: Sequence[int], x: torch.Tensor, group: int) -> torch.Tensor:
    """B_t0 * x_t."""
    rows = [pairs_of(slab, s, group)[0][0] * x[t].double() for t, s in enumerate(slots)]
    return torch.stack(rows)


def scaled_outputs(
    slab: Slab, slots: Sequence[int], y: torch.Tensor, group: int, bias: torch.Tensor | None
) -> torch.Tensor:
    """A_t0 * y_t + b."""
    rows = [pairs_of(slab, s, group)[0][1] * y[t].double() for t, s in enumerate(slots)]
    return torch.stack(rows) + (0 if bias is None else bias.double())


def forward(
    slab: Slab,
    slots: Sequence[int],
    x: torch.Tensor,
    group: int,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
) -> torch.Tensor:
    """sum_j A_tj * (W (B_tj * x_t)) + b. weight: [out, in]."""
    rows = []
    for t, slot in enumerate(slots):
        row = torch.zeros(weight.shape[0]).double() if bias is None else bias.double().clone()
        for b, a in pairs_of(slab, slot, group):
            row += a * (weight.double() @ (b * x[t].double()))
        rows.append(row)
    return torch.stack(rows)


def _pair(slab: Slab, slot: int, group: int, begin: int) -> Pair:
    """Stored values of the pair whose B begins at `begin`."""
    shape, beta = slab.layout.groups[group], slab.layout.beta_width(group)
    alpha = slab.layout.alpha_width(group)
    row = slab.numbers[slot]
    return (
        _values(row[begin:][:beta], shape.in_features),
        _values(row[begin + beta :][:alpha], shape.out_features),
    )


def _values(vector: torch.Tensor, count: int) -> torch.Tensor:
    values = vector[:count].double()
    if vector.dtype != torch.int8:
        return values
    (scale,) = struct.unpack("<f", bytes(vector[-4:].view(torch.uint8).tolist()))
    return values * float(scale)
