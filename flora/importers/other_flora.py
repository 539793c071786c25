"""fLoRA adapters of other trainers: other names, orders and origins of the same numbers.

Known fields of their config: `parametrization` ("deviation" or "value"), `tie_inputs`,
`shared_inputs`, `fan_in_fan_out`, and `average_over_ranks`, true where the layer averages its pairs
as the paper's equation 6 does.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from contracts.errors import InvalidAdapter
from flora.adapter_config import AdapterConfig, shared_input_sets
from flora.adapter_files import AdapterFiles, tensor_name
from flora.codec import Doubles, spread_shared_b
from flora.importers.base_modules import BaseModules, LinearSize
from flora.importers.scales import Method, Parts, Scales
from flora.importers.source import field
from flora.row import Floats

_SIDES = {"B": "in_features", "A": "out_features"}


def to_scales(parts: Parts, config: Mapping[str, Any], base: BaseModules) -> Scales:
    """Raises InvalidAdapter when sizes or ranks make no fLoRA adapter of this base model."""
    if config.get("parametrization") not in ("deviation", "value"):
        raise InvalidAdapter(
            'the config does not say how pair 0 is stored: give parametrization "deviation" (minus'
            ' one) or "value" (as it is)'
        )
    crossed = _crossed(parts, config, base)
    oriented = {
        tensor_name(module, side): _oriented(module, side, tensor, base.sizes[module])
        for module, tensors in parts.items()
        for side, tensor in _named(tensors, crossed).items()
    }
    ranks = {len(tensor) for tensor in oriented.values()}
    if len(ranks) != 1:
        raise InvalidAdapter(f"the tensors have ranks {sorted(ranks)}; one was expected")
    rank = ranks.pop()
    files = AdapterFiles(_own_config(config, rank), oriented)
    _check_ties(parts, files.config, crossed)
    spread = spread_shared_b(files)
    divisor = rank if field(config, "average_over_ranks", bool, False) else 1
    scales: Scales = {}
    for module in parts:
        size = base.sizes[module]
        b, a = (
            _values(spread.get(tensor_name(module, side)), rank, getattr(size, feature), config)
            for side, feature in _SIDES.items()
        )
        scales[module] = b, a / divisor
    return scales


def _check_ties(parts: Parts, config: AdapterConfig, crossed: bool) -> None:
    # A server knows which siblings it fuses; here a B that is left out could be one or shared.
    complete = all("B" in _named(tensors, crossed) for tensors in parts.values())
    if config.tie_inputs and not config.shared_inputs and not complete:
        raise InvalidAdapter(
            "tie_inputs is true and some modules have no B: shared_inputs must name the siblings"
            ' that share one, as [["q_proj", "k_proj", "v_proj"]]'
        )


def _crossed(parts: Parts, config: Mapping[str, Any], base: BaseModules) -> bool:
    """Whether A scales inputs: trainers that take a stored [in, out] weight for W name them so."""
    if not field(config, "fan_in_fan_out", bool, False):
        return False

    def fits(crossed: bool) -> bool:
        return all(
            getattr(base.sizes[module], _SIDES[side]) in tensor.shape
            for module, tensors in parts.items()
            for side, tensor in _named(tensors, crossed).items()
        )

    return fits(True) and not fits(False)


def _named(tensors: Mapping[str, Floats], crossed: bool) -> dict[str, Floats]:
    other = {"A": "B", "B": "A"}
    return {other[side] if crossed else side: tensor for side, tensor in tensors.items()}


def _oriented(module: str, side: str, tensor: Floats, size: LinearSize) -> Floats:
    """[rank, size], of a tensor that may be [size, rank] or, at rank 1, [size]."""
    width = getattr(size, _SIDES[side])
    rows = np.atleast_2d(tensor)
    if rows.shape[1] == width:
        return rows
    if rows.shape[0] == width:
        return np.ascontiguousarray(rows.T)
    raise InvalidAdapter(
        f"{module}.flora_{side} has shape {list(tensor.shape)}, and no side of {width}"
    )


def _own_config(config: Mapping[str, Any], rank: int) -> AdapterConfig:
    return AdapterConfig(
        rank,
        config["parametrization"],
        field(config, "tie_inputs", bool, False),
        shared_inputs=shared_input_sets(field(config, "shared_inputs", list, [])),
    )


def _values(stored: Floats | None, rank: int, size: int, config: Mapping[str, Any]) -> Doubles:
    if stored is None and rank > 1:
        raise InvalidAdapter("a tensor is missing; it may be left out at rank 1 only")
    if stored is None:
        return np.ones((1, size))
    values = stored.astype(np.float64)
    if config["parametrization"] == "deviation":
        values[0] += 1
    return values


FLORA = Method(
    "fLoRA",
    re.compile(r"(?P<module>.+)\.flora_(?P<part>[AB])(?:\.[\w-]+){0,2}"),
    to_scales,
)
