import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from replicas.kernels import plain
from replicas.kernels.native import load_native
from replicas.step_state import StepState
from tests.flora.layouts import make_group, make_layout
from tests.replicas import token_loop
from tests.replicas.kernels.test_plain import DTYPES, ROWS, SLOTS, assert_near, normal, state
from tests.replicas.rows import filled_state, small_layout

__all__ = ["state"]

GROUPS = [0, 1]


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class Layer:
    """x -> A * (W (B * x)) + b by the native ops, as an engine's layer calls them."""

    def __init__(self, ops: Any, state: StepState, group: int, dtype: torch.dtype) -> None:
        shape = state.slab.layout.groups[group]
        self.weight = normal(shape.out_features, shape.in_features, seed=2, dtype=dtype)
        self.bias: torch.Tensor | None = normal(shape.out_features, seed=3)
        self._ops, self._state, self._group = ops, state, group
        self._slab, self._slots, self._extra = state.slab.numbers, state.slots, state.extra_rows
        self._beta_offset = state.slab.layout.beta_offset(group)
        self._alpha_offset = state.slab.layout.alpha_offset(group)
        self._state_id = state.id
        self.is_bounded = False
        state.products[group] = lambda rows: rows @ self.weight.T

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        scaled = self._ops.scale_in(x, self._slab, self._slots, self._beta_offset)
        y: torch.Tensor = scaled @ self.weight.T
        self._ops.scale_out(
            y,
            x,
            self._slab,
            self._slots,
            self.bias,
            self._extra,
            self._alpha_offset,
            self.is_bounded,
            self._state_id,
            self._group,
        )
        return y

    def exact(self, slots: list[int], x: torch.Tensor) -> torch.Tensor:
        slab = self._state.slab
        return token_loop.forward(slab, slots, x, self._group, self.weight, self.bias)


def scale_out(
    ops: Any,
    state: StepState,
    y: torch.Tensor,
    group: int,
    bias: torch.Tensor | None = None,
    *,
    is_bounded: bool = False,
) -> torch.Tensor:
    """The native output scaling alone, of a copy."""
    out, offset = y.clone(), state.slab.layout.alpha_offset(group)
    nothing = torch.zeros_like(state.extra_rows)
    slab, slots = state.slab.numbers, state.slots
    ops.scale_out(out, y, slab, slots, bias, nothing, offset, is_bounded, state.id, group)
    return out


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("group", GROUPS)
def test_inputs(native_ops: Any, state: StepState, dtype: torch.dtype, group: int) -> None:
    shape, offset = state.slab.layout.groups[group], state.slab.layout.beta_offset(group)
    x = normal(len(SLOTS), shape.in_features, dtype=dtype)
    wide = normal(len(SLOTS), shape.in_features + 7, seed=4, dtype=dtype)
    for given in (x, wide[:, 3:-4], x[::1], torch.cat([x, x])[::2]):
        found = native_ops.scale_in(given, state.slab.numbers, state.slots, offset)
        assert found.dtype == dtype
        assert found.is_contiguous()
        assert_near(found, token_loop.scaled_inputs(state.slab, SLOTS, given, group))
        assert_near(found, plain.scale_in(given, state, offset).double())


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("group", GROUPS)
def test_outputs(native_ops: Any, state: StepState, dtype: torch.dtype, group: int) -> None:
    shape, offset = state.slab.layout.groups[group], state.slab.layout.alpha_offset(group)
    y = normal(len(SLOTS), shape.out_features, dtype=dtype)
    for bias in (None, normal(shape.out_features, seed=1)):
        found = scale_out(native_ops, state, y, group, bias)
        assert_near(found, token_loop.scaled_outputs(state.slab, SLOTS, y, group, bias))
        assert_near(found, plain.scale_out(y, state, offset, bias).double())


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("group", GROUPS)
def test_a_whole_layer_with_further_pairs(
    native_ops: Any, state: StepState, dtype: torch.dtype, group: int
) -> None:
    layer = Layer(native_ops, state, group, dtype)
    x = normal(len(SLOTS), state.slab.layout.groups[group].in_features, dtype=dtype)
    before = x.clone()
    assert_near(layer(x), layer.exact(SLOTS, x), roundings=8)
    assert torch.equal(x, before)


@pytest.mark.parametrize("width", [1, 15, 16, 17, 28, 29, 32, 95, 128])
@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_every_width_around_the_vectors(
    native_ops: Any, tmp_path: Path, width: int, dtype: str
) -> None:
    layout = make_layout(make_group("g", width, (width,)), dtype=dtype)
    state = filled_state(tmp_path, layout, [(0,)], [1, 0, 1])
    x = normal(3, width, dtype=torch.bfloat16)
    found = native_ops.scale_in(x, state.slab.numbers, state.slots, 0)
    assert_near(found, token_loop.scaled_inputs(state.slab, [1, 0, 1], x, 0))
    bias = normal(width, seed=1)
    found = scale_out(native_ops, state, x, 0, bias)
    assert_near(found, token_loop.scaled_outputs(state.slab, [1, 0, 1], x, 0, bias))


def test_the_identity_changes_no_bit(native_ops: Any, state: StepState) -> None:
    state.set_tokens([0] * 4)
    for dtype in DTYPES.values():
        x, y = normal(4, 40, dtype=dtype), normal(4, 33, dtype=dtype)
        assert torch.equal(native_ops.scale_in(x, state.slab.numbers, state.slots, 0), x)
        assert torch.equal(scale_out(native_ops, state, y, 0), y)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("group", GROUPS)
def test_bounded_results_are_finite_and_else_the_same(
    native_ops: Any, state: StepState, dtype: torch.dtype, group: int
) -> None:
    shape, offset = state.slab.layout.groups[group], state.slab.layout.alpha_offset(group)
    fine = normal(len(SLOTS), shape.out_features, dtype=dtype)
    wild = fine.clone()
    wild[:, 0], wild[:, 1], wild[:, -2], wild[:, -1] = torch.nan, torch.inf, -torch.inf, 3e4
    wild *= torch.tensor([[1.0] if slot else [0.0] for slot in SLOTS]).to(dtype)
    wild[[slot == 0 for slot in SLOTS]] = fine[0]
    for bias in (None, normal(shape.out_features, seed=1)):
        found = scale_out(native_ops, state, fine, group, bias, is_bounded=True)
        assert torch.equal(found, scale_out(native_ops, state, fine, group, bias))
        found = scale_out(native_ops, state, wild, group, bias, is_bounded=True)
        exact = plain.bound(plain.scale_out(wild, state, offset, bias))
        assert found.isfinite().all()
        assert_near(found, exact.double())
    state.slab.poison(1)
    assert scale_out(native_ops, state, fine, group, is_bounded=True).isfinite().all()


def test_what_further_pairs_add_is_bounded_too(native_ops: Any, state: StepState) -> None:
    layer = Layer(native_ops, state, 0, torch.float32)
    x = normal(len(SLOTS), 40)
    free = layer(x)
    layer.is_bounded = True
    assert torch.equal(layer(x), free)
    x[:] = torch.inf
    assert layer(x).isfinite().all()


def test_a_poisoned_slot_reaches_its_own_tokens_alone(native_ops: Any, state: StepState) -> None:
    state.slab.poison(1)
    for bias in (None, normal(33)):
        y = scale_out(native_ops, state, normal(8, 33), 0, bias)
        assert y.isnan().any(dim=1).tolist() == [slot == 1 for slot in SLOTS]


@pytest.mark.usefixtures("two_threads")
def test_threads_share_the_tokens(native_ops: Any, tmp_path: Path) -> None:
    slots = [t % 5 for t in range(1000)]
    state = filled_state(tmp_path, small_layout(), ROWS, slots, max_num_tokens=1000)
    x, y = normal(1000, 40), normal(1000, 33)
    found = native_ops.scale_in(x, state.slab.numbers, state.slots, 0)
    assert_near(found, token_loop.scaled_inputs(state.slab, slots, x, 0))
    found = scale_out(native_ops, state, y, 0)
    assert_near(found, token_loop.scaled_outputs(state.slab, slots, y, 0, None))


def test_an_empty_step(native_ops: Any, state: StepState) -> None:
    state.set_tokens([])
    assert Layer(native_ops, state, 0, torch.float32)(normal(0, 40)).shape == (0, 33)


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize("row_dtype", ["bfloat16", "int8"])
def test_one_compiled_graph_serves_every_step(
    native_ops: Any, tmp_path: Path, backend: str, row_dtype: str
) -> None:
    state = filled_state(tmp_path, small_layout(row_dtype), ROWS, [])
    layer = Layer(native_ops, state, 0, torch.bfloat16)

    def two_layers(x: torch.Tensor) -> torch.Tensor:
        return layer(x).relu() * 2

    compiled = torch.compile(two_layers, fullgraph=True, backend=backend)
    x = normal(len(SLOTS), 40, dtype=torch.bfloat16)
    for slots in ([0] * 8, [1] * 8, SLOTS, [4] * 8):
        state.set_tokens(slots)
        with torch.compiler.set_stance("default" if slots[0] == 0 else "fail_on_recompile"):
            found = compiled(x)
        assert_near(found, layer.exact(slots, x).relu() * 2, roundings=8)


def test_operators_do_what_their_schemas_say(native_ops: Any, state: StepState) -> None:
    x, y, slab = normal(8, 40), normal(8, 33), state.slab
    layer = Layer(native_ops, state, 0, torch.float32)
    checks = ("test_schema", "test_faketensor")
    arguments = (x, slab.numbers, state.slots, 0)
    torch.library.opcheck(native_ops.scale_in.default, arguments, test_utils=checks)
    offset = slab.layout.alpha_offset(0)
    out = (y, x, slab.numbers, state.slots, layer.bias, state.extra_rows, offset)
    for is_bounded in (False, True):
        torch.library.opcheck(
            native_ops.scale_out.default, (*out, is_bounded, state.id, 0), test_utils=checks
        )
    added = (y, x, state.id, 0)
    torch.library.opcheck(native_ops.add_pairs.default, added, test_utils=checks)


def test_shapes_that_would_read_elsewhere_are_refused(native_ops: Any, state: StepState) -> None:
    slab, slots = state.slab.numbers, state.slots
    with pytest.raises(RuntimeError, match="more tokens than slot indices"):
        native_ops.scale_in(normal(len(slots) + 1, 40), slab, slots, 0)
    with pytest.raises(RuntimeError, match="more tokens than slot indices"):
        scale_out(native_ops, state, normal(len(slots) + 1, 33), 0)
    with pytest.raises(RuntimeError, match="beyond the end of a row"):
        native_ops.scale_in(normal(8, 40), slab, slots, state.slab.layout.row_width - 39)
    if slab.dtype == torch.int8:  # the numbers would fit, their scale would not
        with pytest.raises(RuntimeError, match="beyond the end of a row"):
            native_ops.scale_in(normal(8, 40), slab, slots, state.slab.layout.row_width - 40)
    with pytest.raises(RuntimeError, match="contiguous along features"):
        native_ops.scale_in(normal(40, 8).T, slab, slots, 0)
    y = normal(33, 8).T
    with pytest.raises(RuntimeError, match="must be contiguous"):
        native_ops.scale_out(y, y, slab, slots, None, state.extra_rows, 0, False, state.id, 0)


def test_without_a_compiler_the_plain_code_serves(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with caplog.at_level(logging.WARNING):
        assert load_native.__wrapped__() is False
    assert "no-such-compiler" in caplog.text
