"""Adapter files for tests, with the direct formula that the codec has to agree with."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st

from flora.adapter_config import AdapterConfig, AdapterLimits, Parametrization
from flora.adapter_files import AdapterFiles, tensor_name, write_adapter
from flora.layout import AdapterLayout
from flora.row import Floats
from tests.flora.layouts import make_layout

LIMITS = AdapterLimits()


def make_files(
    tensors: Mapping[tuple[str, str], Any],
    rank: int = 1,
    parametrization: Parametrization = "deviation",
    tie_inputs: bool = False,
    base_fingerprint: str = "",
    shared_inputs: tuple[tuple[str, ...], ...] = (),
) -> AdapterFiles:
    """`tensors` by (module, side)."""
    config = AdapterConfig(
        rank,
        parametrization,
        tie_inputs,
        base_fingerprint=base_fingerprint,
        shared_inputs=shared_inputs,
    )
    named = {
        tensor_name(module, side): np.asarray(tensor, np.float32)
        for (module, side), tensor in tensors.items()
    }
    return AdapterFiles(config, named)


def make_adapter(layout: AdapterLayout, rank: int = 1, seed: int = 0) -> AdapterFiles:
    """A dense, untied adapter of every module of the layout."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for group in layout.groups:
        for member in group.members:
            tensors[member.name, "A"] = rng.normal(0, 0.3, (rank, member.out_features))
            tensors[member.name, "B"] = rng.normal(0, 0.3, (rank, group.in_features))
    return make_files(tensors, rank, base_fingerprint=layout.base_fingerprint)


def make_bytes(dtype: str = "float32") -> tuple[bytes, bytes]:
    """A good upload for the default layout of `layouts.make_layout`: weights and config."""
    return write_adapter(make_adapter(make_layout()), dtype)


def pack(header: Any, body: bytes = b"", length: int | None = None) -> bytes:
    """Safetensors bytes with any header at all."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + body


def expected_weight(
    files: AdapterFiles, group_b: Floats | None, module: str, weight: Floats
) -> Floats:
    """W' by the definition, straight from the files. `group_b` is the B that the group shares."""
    rank = files.config.rank
    a = files.tensors.get(tensor_name(module, "A"))
    b = files.tensors.get(tensor_name(module, "B"))
    if a is None and b is None:
        return weight
    b = group_b if b is None else b
    zero = 1.0 if files.config.parametrization == "deviation" else 0.0
    origin = np.zeros((rank, 1))
    origin[0] = zero
    a_full = np.ones((1, weight.shape[0])) if a is None else a + origin
    b_full = np.ones((1, weight.shape[1])) if b is None else b + origin
    terms = [np.diag(a_full[j]) @ weight @ np.diag(b_full[j]) for j in range(rank)]
    return np.asarray(np.sum(terms, axis=0))


@st.composite
def adapters(draw: st.DrawFn, layout: AdapterLayout) -> AdapterFiles:
    """Any adapter that `layout` accepts: tied or not, members missing, one side missing."""
    rank = draw(st.integers(1, layout.max_rank))
    tie_inputs = draw(st.booleans())
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    tensors: dict[tuple[str, str], Any] = {}
    for group in layout.groups:
        shared = rng.normal(0, 0.5, (rank, group.in_features))
        chosen = [member for member in group.members if draw(st.booleans())]
        for i, member in enumerate(chosen):
            shape = "AB" if rank > 1 and not tie_inputs else draw(st.sampled_from(["A", "B", "AB"]))
            if tie_inputs and rank > 1:
                shape = "AB" if i == 0 else draw(st.sampled_from(["A", "AB"]))
            if "A" in shape:
                tensors[member.name, "A"] = rng.normal(0, 0.5, (rank, member.out_features))
            if "B" in shape:
                own = rng.normal(0, 0.5, (rank, group.in_features))
                tensors[member.name, "B"] = shared if tie_inputs else own
    if not tensors:
        member = layout.groups[0].members[0]
        tensors[member.name, "A"] = rng.normal(0, 0.5, (rank, member.out_features))
        tensors[member.name, "B"] = rng.normal(0, 0.5, (rank, layout.groups[0].in_features))
    kind: Parametrization = draw(st.sampled_from(["deviation", "value"]))
    return make_files(tensors, rank, kind, tie_inputs)
