"""The Triton kernels' source in Triton's interpreter, and through its compiler for an H100."""

from pathlib import Path
from typing import Any

import pytest
import torch
import triton
from hypothesis import given, settings
from hypothesis import strategies as st
from triton.backends.compiler import GPUTarget

from flora.layout import AdapterLayout
from replicas.kernels import plain, triton_scale
from replicas.step_state import StepState
from tests.flora.layouts import layouts
from tests.replicas import token_loop
from tests.replicas.kernels.test_plain import DTYPES, SLOTS, assert_near, normal, state
from tests.replicas.rows import filled_state, row_pairs

__all__ = ["state"]

GROUPS = [0, 1]


def further_of(state: StepState, group: int) -> int:
    return int(state.extra_rows[group])


def layer_of(
    state: StepState,
    group: int,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    *,
    is_bounded: bool = False,
) -> torch.Tensor:
    """Both kernels around a product."""
    further = further_of(state, group)
    y = triton_scale.scale_in(x, state, group, further) @ weight.T
    return triton_scale.scale_out(y, state, group, bias, further, is_bounded)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("group", GROUPS)
def test_a_whole_layer_with_further_pairs(state: StepState, dtype: torch.dtype, group: int) -> None:
    shape = state.slab.layout.groups[group]
    weight = normal(shape.out_features, shape.in_features, seed=2, dtype=dtype)
    x = normal(len(SLOTS), shape.in_features, dtype=dtype)
    before = x.clone()
    for bias in (None, normal(shape.out_features, seed=3)):
        found = layer_of(state, group, x, weight, bias)
        assert found.dtype == dtype
        assert_near(found, token_loop.forward(state.slab, SLOTS, x, group, weight, bias), 4)
    assert torch.equal(x, before)


def test_inputs_of_any_stride(state: StepState) -> None:
    wide = normal(len(SLOTS), 47)
    exact = token_loop.scaled_inputs(state.slab, SLOTS, wide[:, 3:43], 0)
    for x in (wide[:, 3:43], wide[:, 3:43].T.contiguous().T, wide.repeat(1, 2)[:, 50:90]):
        found = triton_scale.scale_in(x, state, 0, further_of(state, 0))
        assert_near(found[: len(SLOTS)], exact)
        assert found.shape == (len(SLOTS) + 2 + 2 * 11, 40)


def test_rank_one_tokens_take_one_row(state: StepState) -> None:
    state.set_tokens([1, 3, 0, 1])  # slot 3 has further pairs on the other group alone
    assert further_of(state, 0) == 0
    assert triton_scale.scale_in(normal(4, 40), state, 0, 0).shape == (4, 40)
    state.set_tokens([1, 2, 0, 1])  # slot 2 has two
    assert triton_scale.scale_in(normal(4, 40), state, 0, further_of(state, 0)).shape == (6, 40)


@settings(max_examples=20)
@given(
    data=st.data(),
    layout=layouts(),
    dtype=st.sampled_from(list(DTYPES.values())),
    has_bias=st.booleans(),
    is_bounded=st.booleans(),
)
def test_any_layout_any_slots(
    data: st.DataObject,
    layout: AdapterLayout,
    dtype: torch.dtype,
    has_bias: bool,
    is_bounded: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    rows = data.draw(st.lists(row_pairs(layout), min_size=1, max_size=3))
    slots = data.draw(st.lists(st.integers(0, len(rows)), min_size=1, max_size=6))
    group = data.draw(st.integers(0, len(layout.groups) - 1))
    state = filled_state(tmp_path_factory.mktemp("rows"), layout, rows, slots)
    shape = layout.groups[group]
    weight = normal(shape.out_features, shape.in_features, seed=2, dtype=dtype)
    x = normal(len(slots), shape.in_features, dtype=dtype)
    bias = normal(shape.out_features, seed=3) if has_bias else None
    found = layer_of(state, group, x, weight, bias, is_bounded=is_bounded)
    # Sums over pairs may cancel: the largest value is that of the sums' parts.
    exact = token_loop.forward(state.slab, slots, x, group, weight, bias)
    size = token_loop.forward(state.slab, slots, x, group, weight, None).abs().max()
    allowed = 64 * torch.finfo(dtype).eps * max(1.0, float(size), float(exact.abs().max()))
    assert float((found.double() - exact).abs().max()) <= allowed


def test_the_identity_changes_no_bit(state: StepState) -> None:
    state.set_tokens([0] * 4)
    for dtype in DTYPES.values():
        x, y = normal(4, 40, dtype=dtype), normal(4, 33, dtype=dtype)
        x[0, 0] = y[0, 0] = torch.inf
        assert torch.equal(triton_scale.scale_in(x, state, 0, 0), x)
        assert torch.equal(triton_scale.scale_out(y.clone(), state, 0, None, 0, False), y)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_bounded_results_are_finite_and_else_the_same(state: StepState, dtype: torch.dtype) -> None:
    state.set_tokens([0, 1, 3])
    wild = normal(3, 33, dtype=dtype)
    wild[1, :3] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    found = triton_scale.scale_out(wild.clone(), state, 0, None, 0, True)
    offset = state.slab.layout.alpha_offset(0)
    assert found.isfinite().all()
    assert_near(found, plain.bound(plain.scale_out(wild, state, offset, None)).double())


def test_a_poisoned_slot_reaches_its_own_tokens_alone(state: StepState) -> None:
    state.slab.poison(1)
    state.set_tokens(SLOTS)
    further = further_of(state, 0)
    y = normal(len(SLOTS) + further, 33)
    found = triton_scale.scale_out(y, state, 0, normal(33), further, False)
    assert found.isnan().any(dim=1).tolist() == [slot == 1 for slot in SLOTS]


def test_an_empty_step(state: StepState) -> None:
    state.set_tokens([])
    assert layer_of(state, 0, normal(0, 40), normal(33, 40), None).shape == (0, 33)


POINTERS = {"slots": "*i32", "counts": "*i32", "offsets": "*i32", "first": "*i32", "bias": "*fp32"}


def compile_for_h100(kernel: Any, row: str, switches: dict[str, Any]) -> str:
    """PTX of a kernel, by Triton's own compiler: it needs no GPU."""
    function = kernel._compiled
    steps = "*fp32" if row == "*i8" else row
    pointers = POINTERS | {"x": "*bf16", "out": "*bf16", "y": "*bf16", "rows": row, "steps": steps}
    names = function.arg_names
    constants = {name: value for name, value in switches.items() if name in names}
    kinds = {
        name: "constexpr" if name in constants else pointers.get(name, "i32") for name in names
    }
    source = triton.compiler.ASTSource(
        fn=function,
        signature=kinds,
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(i,): [["tt.divisibility", 16]] for i, n in enumerate(names) if n not in constants},
    )
    ptx: str = triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"]
    return ptx


@pytest.mark.parametrize("row", ["*bf16", "*i8"])
@pytest.mark.parametrize("has_more", [False, True])
@pytest.mark.parametrize("name", ["_scale_in_kernel", "_scale_out_kernel"])
def test_it_compiles_for_a_gpu_with_wide_loads(
    name: str, has_more: bool, row: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")
    switches = {
        "is_int8": row == "*i8",
        "has_more": has_more,
        "has_bias": True,
        "is_bounded": True,
        "most": plain.bound_of(torch.bfloat16),
        "block": 1024,
    }
    ptx = compile_for_h100(getattr(triton_scale, name), row, switches)
    # Rows and activations go 8 numbers at a time: a load of less would ask the memory twice.
    narrow = [line for line in ptx.splitlines() if ".global.b16" in line or ".global.b8" in line]
    assert "ld.global.v4.b32" in ptx
    assert not narrow
