"""The scales that every importer makes, and the fLoRA files of them."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from contracts.errors import AdapterTooLarge, InvalidAdapter
from flora.adapter_config import AdapterConfig, AdapterLimits
from flora.adapter_files import AdapterFiles, tensor_name
from flora.codec import Doubles
from flora.importers.base_modules import BaseModules
from flora.row import Floats

Scales = dict[str, tuple[Doubles, Doubles]]
"""B [pairs, in] and A [pairs, out] of each module as full values; further modules are as before."""

Parts = Mapping[str, Mapping[str, Floats]]
"""Tensors of a source by module and by what its method calls them."""


@dataclass(frozen=True, slots=True)
class Method:
    """How one method's tensors are named, `name` with groups "module" and "part", and read."""

    title: str
    name: re.Pattern[str]
    to_scales: Callable[[Parts, Mapping[str, Any], BaseModules], Scales]


def to_files(
    scales: Scales, base_model: str, fingerprint: str, limits: AdapterLimits
) -> AdapterFiles:
    """Deviations in float32, with what changes nothing left out at rank 1.

    Modules of a lower rank get pairs of zeros. Raises InvalidAdapter when nothing is left, and
    AdapterTooLarge.
    """
    rank = max(len(b) for b, _ in scales.values())
    if rank > limits.max_rank:
        raise AdapterTooLarge(f"becomes a fLoRA adapter of rank {rank}, at most {limits.max_rank}")
    tensors: dict[str, Floats] = {}
    for module, (b, a) in scales.items():
        for side, values in (("B", b), ("A", a)):
            stored = np.zeros((rank, values.shape[1]), np.float32)
            stored[: len(values)] = values
            stored[0] = values[0] - 1
            if rank > 1 or stored.any():
                tensors[tensor_name(module, side)] = stored
    if not any(tensor.any() for tensor in tensors.values()):
        raise InvalidAdapter("the adapter changes nothing: all its scales are one")
    leaves = sorted({module.rpartition(".")[2] for module in scales})
    config = AdapterConfig(
        rank,
        "deviation",
        target_modules=tuple(leaves),
        base_model_name_or_path=base_model,
        base_fingerprint=fingerprint,
    )
    return AdapterFiles(config, tensors)


def check_shape(tensor: Floats, shape: tuple[int, ...], what: str) -> None:
    """Raises InvalidAdapter unless `tensor` fits the base model."""
    if tensor.shape != shape:
        raise InvalidAdapter(f"{what} has shape {list(tensor.shape)}, not {list(shape)}")
