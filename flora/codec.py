"""From an adapter's files to the row of a layout, and back. Knows no server; numpy only."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.adapters import Digest
from contracts.errors import AdapterTooLarge, InvalidAdapter, WrongBaseModel
from flora.adapter_config import AdapterConfig, AdapterLimits, show
from flora.adapter_files import AdapterFiles, split_tensor_name, tensor_name
from flora.layout import AdapterLayout, Group
from flora.row import Floats, decode_row, encode_row
from flora.row_head import Buffer

Doubles = NDArray[np.float64]
Scales = tuple[Floats, Floats]
"""B [pairs, in] and A [pairs, out] of one module, as full values."""

_MAX_NUMBER = {
    "float16": 65504.0,
    "bfloat16": float.fromhex("0x1.fep127"),
    "float32": 3.4028234e38,
    "int8": float.fromhex("0x1.fep127"),  # by its scale
}


@dataclass(frozen=True, slots=True)
class CompiledAdapter:
    """One row, ready for the store. `num_modules` counts the modules that differ from the base."""

    blob: bytes
    digest: Digest
    rank: int
    num_modules: int


@dataclass(frozen=True, slots=True)
class _Module:
    """Full values of one module, b [r, in] and a [r, out]; in float64 1 + deviation is exact."""

    b: Doubles
    a: Doubles

    def is_identity(self) -> bool:
        rest = (self.a[1:].any(axis=1) & self.b[1:].any(axis=1)).any()
        return bool((self.a[0] == 1).all() and (self.b[0] == 1).all() and not rest)


def compile_adapter(
    layout: AdapterLayout, files: AdapterFiles, limits: AdapterLimits
) -> CompiledAdapter:
    """Lays the adapter out for the fused groups of `layout`; exact up to the layout's dtype.

    A module counts as touched when it has a tensor; an untouched member of a touched group stays
    the base model's. Raises WrongBaseModel, AdapterTooLarge (rank, row size), else InvalidAdapter.
    """
    config = files.config
    _check_base(layout, config)
    if config.rank > layout.max_rank:
        raise AdapterTooLarge(f"rank {config.rank}; this server takes at most {layout.max_rank}")
    stored = _by_group(layout, spread_shared_b(files))
    groups = {g: _modules(layout, g, sides, config) for g, sides in stored.items()}
    changed = [m for modules in groups.values() for m in modules.values() if not m.is_identity()]
    if not changed:
        raise InvalidAdapter("the adapter changes nothing: every module it names is the identity")
    pairs = {g: _pairs(layout.groups[g], modules) for g, modules in groups.items()}
    extra = [len(pairs[g]) - 1 if g in pairs else 0 for g in range(len(layout.groups))]
    num_bytes = layout.extra_offsets(extra)[-1] * layout.itemsize
    if num_bytes > limits.max_row_bytes:
        raise AdapterTooLarge(f"compiles to {num_bytes} bytes, at most {limits.max_row_bytes}")
    blob = encode_row(layout, extra, _numbers(layout, extra, pairs))
    return CompiledAdapter(
        blob, Digest(hashlib.sha256(blob).hexdigest()), config.rank, len(changed)
    )


def decompile(layout: AdapterLayout, blob: Buffer) -> dict[str, Scales]:
    """B and A of every module of the layout, pair 0 included, as float32 full values.

    Raises AdapterCorrupt when the blob is not a row of this layout.
    """
    row = decode_row(layout, blob)
    ends = layout.extra_offsets(row.extra_pairs)
    modules = {}
    for g, group in enumerate(layout.groups):
        begin = layout.beta_offset(g)
        width = layout.pair_width(g)
        first = row.numbers[begin : begin + width].reshape(1, -1) + np.float32(1)
        more = row.numbers[ends[g] : ends[g + 1]].reshape(-1, width)
        pairs = np.concatenate([first, more])
        for m, member in enumerate(group.members):
            alpha = layout.beta_width(g) + group.out_offset(m)
            b, a = pairs[:, : group.in_features], pairs[:, alpha : alpha + member.out_features]
            modules[member.name] = (b.copy(), a.copy())
    return modules


def materialize(weight: Floats, b: Floats, a: Floats) -> Floats:
    """W' = sum_j diag(A_j) W diag(B_j) of `weight` [out, in], `b` [pairs, in], `a` [pairs, out]."""
    return weight * (a.T @ b)


def _check_base(layout: AdapterLayout, config: AdapterConfig) -> None:
    ours, theirs = layout.base_fingerprint, config.base_fingerprint
    # "architecture-weights"; either side may know the architecture alone.
    known = zip(ours.split("-"), theirs.split("-"), strict=False)
    if theirs and any(one != other for one, other in known):
        raise WrongBaseModel(
            f"the adapter was made for base model {show(theirs)}, this server runs {show(ours)}",
            "base_fingerprint",
        )


def spread_shared_b(files: AdapterFiles) -> dict[str, Floats]:
    """The tensors with each shared B repeated on the siblings that are touched and lack it."""
    tensors = dict(files.tensors)
    siblings = {leaf: leaves for leaves in files.config.shared_inputs for leaf in leaves}
    for name in files.tensors if files.config.tie_inputs else ():
        module, _ = split_tensor_name(name)
        parent, _, leaf = module.rpartition(".")
        own, *others = (
            tensor_name(f"{parent}.{sibling}" if parent else sibling, "B")
            for sibling in (leaf, *siblings.get(leaf, ()))
        )
        stored = next((files.tensors[other] for other in others if other in files.tensors), None)
        if stored is not None:
            tensors.setdefault(own, stored)
    return tensors


Sides = dict[int, dict[str, Floats]]
"""Stored tensors of one group: member index -> "A" or "B" -> tensor."""


def _by_group(layout: AdapterLayout, tensors: dict[str, Floats]) -> dict[int, Sides]:
    groups: dict[int, Sides] = {}
    for name, tensor in tensors.items():
        module, side = split_tensor_name(name)
        place = layout.member(module)
        if place is None:
            raise InvalidAdapter(f"module {show(module)} is not one this base model can adapt")
        groups.setdefault(place[0], {}).setdefault(place[1], {})[side] = tensor
    if not groups:
        raise InvalidAdapter("the adapter has no tensors")
    return groups


def _modules(
    layout: AdapterLayout, g: int, sides: Sides, config: AdapterConfig
) -> dict[int, _Module]:
    group, rank = layout.groups[g], config.rank
    shared = _shared_b(group, sides) if config.tie_inputs else None
    modules = {}
    for m in sorted(sides):
        member = group.members[m]
        stored = sides[m] if shared is None else sides[m] | {"B": shared}
        values = [
            _values(layout, config, tensor_name(member.name, side), stored.get(side), (rank, size))
            for side, size in (("B", group.in_features), ("A", member.out_features))
        ]
        modules[m] = _Module(*values)
    return modules


def _shared_b(group: Group, sides: Sides) -> Floats | None:
    stored = [(m, sides[m]["B"]) for m in sorted(sides) if "B" in sides[m]]
    for m, b in stored[1:]:
        if not np.array_equal(b, stored[0][1]):
            raise InvalidAdapter(
                f"tensor {tensor_name(group.members[m].name, 'B')} differs from"
                f" {tensor_name(group.members[stored[0][0]].name, 'B')}, but tie_inputs is true"
            )
    return stored[0][1] if stored else None


def _values(
    layout: AdapterLayout,
    config: AdapterConfig,
    name: str,
    stored: Floats | None,
    shape: tuple[int, int],
) -> Doubles:
    if stored is None and config.rank > 1:
        raise InvalidAdapter(f"tensor {name} is missing; it may be left out at rank 1 only")
    if stored is None:
        return np.ones(shape)
    if stored.shape != shape:
        raise InvalidAdapter(f"tensor {name} has shape {list(stored.shape)}, not {list(shape)}")
    if not np.abs(stored).max() <= _MAX_NUMBER[layout.dtype]:
        raise InvalidAdapter(f"tensor {name} holds a number that does not fit {layout.dtype}")
    values = stored.astype(np.float64)
    if config.parametrization == "deviation":
        values[0] += 1
    return values


def _pairs(group: Group, modules: dict[int, _Module]) -> list[tuple[Doubles, Doubles]]:
    """One pair a distinct B, the first touched module's first. A is zero where another B applies.

    So tied modules share their pairs, and untied ones get pairs of their own.
    """
    untouched = [m for m in range(len(group.members)) if m not in modules]
    ones = np.ones(group.in_features)
    terms = [(m, b, a) for m, module in modules.items() for b, a in _zip(module)]
    terms += [(m, ones, np.ones(group.members[m].out_features)) for m in untouched]
    pairs: dict[bytes, tuple[Doubles, Doubles]] = {}
    for m, b, a in terms:
        b = b + 0.0  # minus zero and zero are one B
        _, total = pairs.setdefault(b.tobytes(), (b, np.zeros(group.out_features)))
        begin = group.out_offset(m)
        total[begin : begin + len(a)] += a
    first, *rest = pairs.values()
    return [first] + [(b, a) for b, a in rest if a.any() and b.any()]


def _zip(module: _Module) -> Iterable[tuple[Doubles, Doubles]]:
    return zip(module.b, module.a, strict=True)


def _numbers(
    layout: AdapterLayout, extra: list[int], pairs: dict[int, list[tuple[Doubles, Doubles]]]
) -> Floats:
    ends = layout.extra_offsets(extra)
    numbers: NDArray[Any] = np.zeros(ends[-1], np.float64)
    for g, (first, *rest) in pairs.items():
        beta = layout.beta_width(g)
        _put(numbers, layout.beta_offset(g), beta, first, 1.0)
        for j, pair in enumerate(rest):
            _put(numbers, ends[g] + j * layout.pair_width(g), beta, pair, 0.0)
    with np.errstate(over="ignore"):  # encode_row refuses what became infinite
        return numbers.astype(np.float32)


def _put(
    numbers: Doubles, begin: int, beta_width: int, pair: tuple[Doubles, Doubles], origin: float
) -> None:
    b, a = pair
    alpha = begin + beta_width
    numbers[begin : begin + len(b)] = b - origin
    numbers[alpha : alpha + len(a)] = a - origin
