"""The codec against the direct formula, the number of pairs of each shape, and refusals."""

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import AdapterCorrupt, AdapterTooLarge, InvalidAdapter, WrongBaseModel
from flora.adapter_config import AdapterLimits
from flora.adapter_files import AdapterFiles, read_adapter, tensor_name, write_adapter
from flora.codec import compile_adapter, decompile, materialize
from flora.layout import AdapterLayout, Member
from flora.row import Floats, decode_row, read_header
from tests.flora.adapters import LIMITS, adapters, expected_weight, make_adapter, make_files
from tests.flora.layouts import layouts, make_group, make_layout

RNG = np.random.default_rng(7)


def random(*shape: int) -> Floats:
    return RNG.normal(0, 0.3, shape).astype(np.float32)


def assert_exact(layout: AdapterLayout, files: AdapterFiles, rtol: float, atol: float) -> None:
    modules = decompile(layout, compile_adapter(layout, files, LIMITS).blob)
    for group in layout.groups:
        stored = [files.tensors.get(tensor_name(m.name, "B")) for m in group.members]
        shared = (
            next((b for b in stored if b is not None), None) if files.config.tie_inputs else None
        )
        for member in group.members:
            weight = random(member.out_features, group.in_features)
            got = materialize(weight, *modules[member.name])
            expected = expected_weight(files, shared, member.name, weight)
            np.testing.assert_allclose(got, expected, rtol=rtol, atol=atol)


@given(st.data())
def test_float32_rows_equal_the_formula(data: st.DataObject) -> None:
    layout = data.draw(layouts(("float32",)))
    assert_exact(layout, data.draw(adapters(layout)), 1e-6, 1e-6)


@given(st.data())
def test_short_rows_equal_the_formula_within_their_precision(data: st.DataObject) -> None:
    layout = data.draw(layouts(("bfloat16", "float16")))
    # Four terms of products of two rounded factors, each up to about 6.
    atol = 4 * 2 * 6 * (2.0**-8 if layout.dtype == "bfloat16" else 2.0**-11)
    assert_exact(layout, data.draw(adapters(layout)), 0, atol)


@given(st.data())
def test_int8_rows_equal_the_formula_within_their_steps(data: st.DataObject) -> None:
    layout = data.draw(layouts(("int8",)))
    # As above, factors up to 6 with half a step of 6 / 127 on each, four terms of both sides.
    assert_exact(layout, data.draw(adapters(layout)), 0, 4 * 2 * 6 * 6 / 127 / 2)


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_what_fits_no_row_is_refused(dtype: str) -> None:
    files = make_files({("qkv.0", "A"): np.full((1, 8), 3.4e38)})
    with pytest.raises(InvalidAdapter, match=f"does not fit {dtype}"):
        compile_adapter(make_layout(dtype=dtype), files, LIMITS)


def num_extra_pairs(layout: AdapterLayout, files: AdapterFiles) -> int:
    return read_header(compile_adapter(layout, files, LIMITS).blob).extra_pairs[0]


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_tied_members_share_their_pairs(rank: int) -> None:
    layout, b = make_layout(), random(rank, 8)
    once: dict[Any, Any] = {("qkv.0", "B"): b}
    once |= {(f"qkv.{i}", "A"): random(rank, out) for i, out in enumerate((8, 4, 4))}
    repeated = once | {(f"qkv.{i}", "B"): b for i in range(3)}
    assert num_extra_pairs(layout, make_files(once, rank, tie_inputs=True)) == rank - 1
    assert num_extra_pairs(layout, make_files(repeated, rank, tie_inputs=True)) == rank - 1
    assert num_extra_pairs(layout, make_files(repeated, rank)) == rank - 1


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_untied_members_have_pairs_of_their_own(rank: int) -> None:
    layout = make_layout()
    assert num_extra_pairs(layout, make_adapter(layout, rank)) == 3 * rank - 1


def test_untied_rank_one_row() -> None:
    layout = make_layout()
    files = make_adapter(layout)
    tensor = {name.removeprefix("base_model.model."): x[0] for name, x in files.tensors.items()}
    numbers = decode_row(layout, compile_adapter(layout, files, LIMITS).blob).numbers
    np.testing.assert_array_equal(numbers[:8], tensor["qkv.0.flora_B"])
    np.testing.assert_array_equal(numbers[32:40], tensor["qkv.0.flora_A"])
    np.testing.assert_array_equal(numbers[40:48], -1)
    np.testing.assert_allclose(numbers[64:72], 1 + tensor["qkv.1.flora_B"], rtol=1e-7)
    np.testing.assert_array_equal(numbers[96:104], 0)
    np.testing.assert_allclose(numbers[104:108], 1 + tensor["qkv.1.flora_A"], rtol=1e-7)
    np.testing.assert_array_equal(numbers[108:128], 0)


def test_an_untouched_member_keeps_the_identity() -> None:
    layout = make_layout()
    touched = {("qkv.1", "A"): random(1, 4)}
    # IA3-shaped: its B is ones, as is that of the untouched members, so that one pair is enough.
    assert num_extra_pairs(layout, make_files(touched)) == 0
    own_input = touched | {("qkv.1", "B"): random(1, 8)}
    assert num_extra_pairs(layout, make_files(own_input)) == 1
    tied = own_input | {("qkv.0", "A"): random(1, 8)}
    assert num_extra_pairs(layout, make_files(tied, tie_inputs=True)) == 1
    assert_exact(layout, make_files(tied, tie_inputs=True), 1e-6, 1e-6)


@pytest.mark.parametrize("rank", [1, 3])
def test_a_shared_input_reaches_siblings_that_the_engine_keeps_apart(rank: int) -> None:
    apart = make_layout(*(make_group(f"a{i}", 8, (4,)) for i in range(3)))
    names = ("x.q", "x.k", "x.v")
    groups = [replace(g, members=(Member(n, 4),)) for g, n in zip(apart.groups, names, strict=True)]
    layout = replace(apart, groups=tuple(groups))
    once: dict[Any, Any] = {("x.q", "B"): random(rank, 8)} | {
        (name, "A"): random(rank, 4) for name in names[:2]
    }
    shared = make_files(once, rank, tie_inputs=True, shared_inputs=(("q", "k", "v"),))
    repeated = make_files(once | {("x.k", "B"): once["x.q", "B"]}, rank)
    assert compile_adapter(layout, shared, LIMITS) == compile_adapter(layout, repeated, LIMITS)


def test_dead_pairs_are_dropped() -> None:
    layout = make_layout()
    a = np.stack([random(8), np.zeros(8, np.float32)])
    files = make_files({("qkv.0", "A"): a, ("qkv.0", "B"): np.zeros((2, 8))}, 2)
    assert num_extra_pairs(layout, files) == 0


def test_facts_of_a_compiled_adapter() -> None:
    layout = make_layout(make_group("qkv"), make_group("o", 8, (8,)))
    files = make_files({("qkv.0", "A"): random(2, 8), ("qkv.0", "B"): random(2, 8)}, 2)
    compiled = compile_adapter(layout, files, LIMITS)
    assert (compiled.rank, compiled.num_modules, len(compiled.digest)) == (2, 1, 64)
    assert compile_adapter(layout, files, LIMITS) == compiled


@pytest.mark.parametrize(
    ("tensors", "rank", "tie_inputs", "message"),
    [
        ({}, 1, False, "no tensors"),
        ({("qkv.9", "A"): random(1, 8)}, 1, False, "'qkv.9' is not one"),
        ({("qkv.0", "A"): random(1, 7)}, 1, False, r"\[1, 7\], not \[1, 8\]"),
        ({("qkv.0", "A"): random(2, 8)}, 1, False, r"\[2, 8\], not \[1, 8\]"),
        ({("qkv.0", "A"): random(2, 8)}, 2, False, "flora_B is missing"),
        ({("qkv.0", "A"): random(2, 8)}, 2, True, "flora_B is missing"),
        ({("qkv.0", "A"): np.zeros((1, 8))}, 1, False, "changes nothing"),
        (
            {("qkv.0", "B"): random(1, 8), ("qkv.1", "B"): random(1, 8)},
            1,
            True,
            "tie_inputs is true",
        ),
        ({("qkv.0", "A"): np.full((1, 8), np.nan)}, 1, False, "does not fit"),
        ({("qkv.0", "A"): np.full((1, 8), 3.41e38)}, 1, False, "does not fit"),
    ],
)
def test_refusals(tensors: Any, rank: int, tie_inputs: bool, message: str) -> None:
    with np.errstate(over="ignore"), pytest.raises(InvalidAdapter, match=message):
        compile_adapter(make_layout(), make_files(tensors, rank, tie_inputs=tie_inputs), LIMITS)


def test_names_of_another_form_are_refused() -> None:
    files = make_files({("qkv.0", "A"): random(1, 8)})
    files.tensors["model.qkv.0.lora_A"] = random(1, 8)
    with pytest.raises(InvalidAdapter, match="the name must be"):
        compile_adapter(make_layout(), files, LIMITS)


def test_overflow_of_the_sum_is_refused() -> None:
    big, b = np.full((2, 8), 3e38), np.ones((2, 8))
    files = make_files({("qkv.0", "A"): big, ("qkv.0", "B"): b}, 2, "value")
    with pytest.raises(InvalidAdapter, match="does not fit"):
        compile_adapter(make_layout(), files, LIMITS)


def test_too_large_adapters_are_refused() -> None:
    layout = make_layout(max_rank=2)
    with pytest.raises(AdapterTooLarge, match="rank 3; this server takes at most 2"):
        compile_adapter(layout, make_adapter(layout, 3), LIMITS)
    with pytest.raises(AdapterTooLarge, match="compiles to"):
        compile_adapter(layout, make_adapter(layout), AdapterLimits(max_row_bytes=100))


@pytest.mark.parametrize(
    ("ours", "theirs", "fits"),
    [
        ("a1-b1", "a1-b1", True),
        ("a1-b1", "", True),
        ("a1-b1", "a1", True),
        ("a1", "a1-b1", True),
        ("a1-b1", "a1-b2", False),
        ("a1-b1", "a2", False),
    ],
)
def test_base_fingerprints(ours: str, theirs: str, fits: bool) -> None:
    layout = make_layout(fingerprint=ours)
    files = make_files({("qkv.0", "A"): random(1, 8)}, base_fingerprint=theirs)
    if fits:
        compile_adapter(layout, files, LIMITS)
        return
    with pytest.raises(WrongBaseModel, match="was made for"):
        compile_adapter(layout, files, LIMITS)


def test_decompile_refuses_what_is_no_row() -> None:
    with pytest.raises(AdapterCorrupt):
        decompile(make_layout(), b"x" * 200)


def test_a_small_language_model_compiles_in_well_under_50_ms() -> None:
    groups = []
    for i in range(30):
        groups.append(make_group(f"{i}.qkv", 576, (576, 192, 192)))
        groups.append(make_group(f"{i}.o", 576, (576,)))
        groups.append(make_group(f"{i}.up", 576, (1536, 1536)))
        groups.append(make_group(f"{i}.down", 1536, (576,)))
    layout = make_layout(*groups, dtype="bfloat16")
    tensors = {}
    for group in groups:
        tensors[group.members[0].name, "B"] = random(1, group.in_features)
        tensors |= {(m.name, "A"): random(1, m.out_features) for m in group.members}
    weights, config = write_adapter(make_files(tensors, tie_inputs=True), "bfloat16")
    assert len(weights) < 600_000
    took_s = []
    for _ in range(25):  # one of them is not disturbed
        begin_s = time.perf_counter()
        compiled = compile_adapter(layout, read_adapter(weights, config, LIMITS), LIMITS)
        took_s.append(time.perf_counter() - begin_s)
    assert compiled.num_modules == 210
    assert read_header(compiled.blob).payload_bytes == layout.base_width * 2 == 506_880
    assert min(took_s) < 0.05
    print(f"compiled in {1000 * min(took_s):.1f} ms")
    short = compile_adapter(
        replace(layout, dtype="int8"), read_adapter(weights, config, LIMITS), LIMITS
    )
    assert len(short.blob) < 0.52 * len(compiled.blob)
