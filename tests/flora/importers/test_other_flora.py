"""Other trainers' fLoRA files: any naming, order and origin of the same numbers."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from contracts.errors import InvalidAdapter
from flora.adapter_files import AdapterFiles, split_tensor_name
from flora.codec import compile_adapter, decompile
from flora.importers.base_modules import BaseModules, LinearSize
from flora.importers.importer import import_adapter
from flora.importers.source import Source
from flora.layout import AdapterLayout
from flora.row import Floats
from tests.flora.adapters import LIMITS, make_adapter, make_files
from tests.flora.layouts import make_group, make_layout

LAYOUT = make_layout(make_group("layer.qkv", 8, (6, 4, 4)), make_group("layer.o", 6, (8,)))
Q, K = "layer.qkv.0", "layer.qkv.1"


def base_of(layout: AdapterLayout) -> BaseModules:
    return BaseModules(
        {
            member.name: LinearSize(group.in_features, member.out_features, False)
            for group in layout.groups
            for member in group.members
        }
    )


def imported(tensors: dict[str, Any], **config: Any) -> AdapterFiles:
    named = {n: np.ascontiguousarray(t, np.float32) for n, t in tensors.items()}
    text = json.dumps({"peft_type": "FLORA", "parametrization": "deviation"} | config)
    source = Source.parse(save(named), text.encode(), LIMITS)
    return import_adapter(source, base_of(LAYOUT), "tiny", "", LIMITS)


def scales(files: AdapterFiles) -> dict[str, tuple[Floats, Floats]]:
    return decompile(LAYOUT, compile_adapter(LAYOUT, files, LIMITS).blob)


def assert_same(found: AdapterFiles, expected: AdapterFiles) -> None:
    """The same weights; a full product, as pairs may come in another order."""
    theirs = scales(expected)
    for module, (b, a) in scales(found).items():
        np.testing.assert_allclose(a.T @ b, theirs[module][1].T @ theirs[module][0], atol=1e-5)


@given(
    rank=st.integers(1, 3),
    prefix=st.sampled_from(["", "base_model.model.", "module.", "_orig_mod.model.", "model."]),
    suffix=st.sampled_from(["", ".weight", ".default", ".default.weight"]),
    is_transposed=st.booleans(),
    is_value=st.booleans(),
    is_average=st.booleans(),
)
def test_the_numbers_are_the_same(
    rank: int, prefix: str, suffix: str, is_transposed: bool, is_value: bool, is_average: bool
) -> None:
    files = make_adapter(LAYOUT, rank)
    tensors = {}
    for name, tensor in files.tensors.items():
        module, side = split_tensor_name(name)
        origin = np.zeros((rank, 1))
        origin[0] = 1
        values = (tensor + origin) * (rank if is_average and side == "A" else 1)
        stored = values if is_value else values - origin
        tensors[f"{prefix}{module}.flora_{side}{suffix}"] = stored.T if is_transposed else stored
    found = imported(
        tensors,
        parametrization="value" if is_value else "deviation",
        average_over_ranks=is_average,
    )
    assert found.config.rank == rank
    assert_same(found, files)


def test_vectors_are_rank_1() -> None:
    a = np.arange(6) / 10
    found = imported({f"{Q}.flora_A": a})
    assert_same(found, make_files({(Q, "A"): a[None]}))


def test_a_shared_b_is_every_siblings() -> None:
    a, b = np.full((1, 6), 0.5), np.full((1, 8), 0.25)
    tensors = {f"{Q}.flora_A": a, f"{Q}.flora_B": b, f"{K}.flora_A": a[:, :4]}
    found = imported(tensors, tie_inputs=True, shared_inputs=[["0", "1", "2"]])
    expected = {(Q, "A"): a, (Q, "B"): b, (K, "A"): a[:, :4], (K, "B"): b}
    assert_same(found, make_files(expected))
    with pytest.raises(InvalidAdapter, match="shared_inputs must name the siblings"):
        imported(tensors, tie_inputs=True)


def test_a_trainer_that_takes_the_stored_order_for_w_names_the_sides_the_other_way() -> None:
    files = make_adapter(LAYOUT, 2)
    swap = {"A": "B", "B": "A"}
    crossed = {
        f"{module}.flora_{swap[side]}": tensor
        for (module, side), tensor in (
            (split_tensor_name(name), tensor) for name, tensor in files.tensors.items()
        )
    }
    assert_same(imported(crossed, fan_in_fan_out=True), files)
    assert_same(imported(dict(files.tensors), fan_in_fan_out=True), files)
    with pytest.raises(InvalidAdapter, match="and no side of"):
        imported(crossed)


@pytest.mark.parametrize(
    ("tensors", "config", "message"),
    [
        ({f"{Q}.flora_A": np.ones((1, 6))}, {"parametrization": None}, "does not say how pair 0"),
        ({f"{Q}.flora_A": np.ones((2, 6))}, {}, "may be left out at rank 1 only"),
        ({f"{Q}.flora_A": np.ones((2, 6)), f"{Q}.flora_B": np.ones((1, 8))}, {}, r"ranks \[1, 2\]"),
        ({f"{Q}.flora_A": np.ones((1, 6))}, {"tie_inputs": "yes"}, "tie_inputs must be of type"),
        ({f"{Q}.lora_A": np.ones((1, 6))}, {}, "none of a fLoRA adapter's"),
        ({f"{Q}.flora_A": np.zeros((1, 6))}, {}, "changes nothing"),
    ],
)
def test_what_makes_no_adapter(
    tensors: dict[str, Any], config: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidAdapter, match=message):
        imported(tensors, **config)
