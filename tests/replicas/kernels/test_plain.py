from pathlib import Path

import pytest
import torch

from replicas.kernels import plain
from replicas.step_state import StepState
from tests.replicas import token_loop
from tests.replicas.rows import filled_state, small_layout

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
ROWS = [(0, 0), (2, 0), (0, 3), (11, 3)]
SLOTS = [0, 1, 4, 2, 3, 3, 0, 4]
GROUPS = [0, 1]


@pytest.fixture(params=[*sorted(DTYPES), "int8"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> StepState:
    return filled_state(tmp_path, small_layout(request.param), ROWS, SLOTS)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def assert_near(found: torch.Tensor, exact: torch.Tensor, roundings: int = 1) -> None:
    """Within some roundings of the largest value, in the dtype of `found`."""
    assert found.shape == exact.shape
    allowed = roundings * torch.finfo(found.dtype).eps * float(exact.abs().max())
    assert float((found.double() - exact).abs().max()) <= allowed


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("group", GROUPS)
def test_scales_agree_with_the_token_loop(state: StepState, dtype: torch.dtype, group: int) -> None:
    shape, layout = state.slab.layout.groups[group], state.slab.layout
    x = normal(len(SLOTS), shape.in_features, dtype=dtype)
    scaled = plain.scale_in(x, state, layout.beta_offset(group))
    assert scaled.dtype == dtype
    assert_near(scaled, token_loop.scaled_inputs(state.slab, SLOTS, x, group))
    y = normal(len(SLOTS), shape.out_features, dtype=dtype)
    for bias in (None, normal(shape.out_features, seed=1)):
        out = plain.scale_out(y, state, layout.alpha_offset(group), bias)
        assert out.dtype == dtype
        assert_near(out, token_loop.scaled_outputs(state.slab, SLOTS, y, group, bias))


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("group", GROUPS)
def test_further_pairs_agree_with_the_token_loop(
    state: StepState, dtype: torch.dtype, group: int
) -> None:
    shape, layout = state.slab.layout.groups[group], state.slab.layout
    weight = normal(shape.out_features, shape.in_features, seed=2, dtype=dtype)
    state.products[group] = lambda rows: rows @ weight.T
    x = normal(len(SLOTS), shape.in_features, dtype=dtype)
    first = state.products[group](plain.scale_in(x, state, layout.beta_offset(group)))
    y = plain.scale_out(first, state, layout.alpha_offset(group), None)
    plain.add_pairs(y, x, state, group)
    exact = token_loop.forward(state.slab, SLOTS, x, group, weight, None)
    assert_near(y, exact, roundings=8)


def test_the_identity_changes_no_bit(state: StepState) -> None:
    state.set_tokens([0] * 5)
    for dtype in DTYPES.values():
        x = normal(5, 40, dtype=dtype)
        assert torch.equal(plain.scale_in(x, state, 0), x)
        y = normal(5, 33, dtype=dtype)
        offset = state.slab.layout.alpha_offset(0)
        assert torch.equal(plain.scale_out(y, state, offset, None), y)


def test_no_further_pairs_no_product(state: StepState) -> None:
    state.set_tokens([0, 1, 3])  # slot 3 has further pairs on the other group alone
    x, y = normal(3, 40), normal(3, 33)
    before = y.clone()
    plain.add_pairs(y, x, state, 0)  # would look up a product that nobody set
    assert torch.equal(y, before)


def test_one_product_for_all_further_pairs(state: StepState) -> None:
    calls: list[tuple[int, ...]] = []

    def product(rows: torch.Tensor) -> torch.Tensor:
        calls.append(tuple(rows.shape))
        return rows.new_zeros(len(rows), 33)

    state.products[0] = product
    plain.add_pairs(normal(8, 33), normal(8, 40), state, 0)
    assert calls == [(int(state.extra_rows[0]), 40)] == [(2 + 2 * 11, 40)]


def test_padding_behind_the_tokens_stays_as_it_is(state: StepState) -> None:
    weight = normal(33, 40, seed=2)
    state.products[0] = lambda rows: rows @ weight.T
    x, y = normal(20, 40), normal(20, 33)
    before = y.clone()
    plain.add_pairs(y, x, state, 0)
    assert torch.equal(y[len(SLOTS) :], before[len(SLOTS) :])
    assert not torch.equal(y[2], before[2])


def test_a_poisoned_slot_reaches_its_own_tokens_alone(state: StepState) -> None:
    state.slab.poison(1)
    y = plain.scale_out(normal(8, 33), state, state.slab.layout.alpha_offset(0), None)
    assert y.isnan().any(dim=1).tolist() == [slot == 1 for slot in SLOTS]


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_bounded_numbers_rotate_to_finite_ones(dtype: torch.dtype) -> None:
    wild = torch.tensor([torch.nan, torch.inf, -torch.inf, 3e38, -1.5, 0.0]).to(dtype)
    tame = plain.bound(wild)
    assert (tame + tame).isfinite().all() or dtype == torch.float16
    assert (tame.double() * 2**0.5).to(dtype).isfinite().all()
    assert tame[-2:].tolist() == [-1.5, 0.0]


def test_the_operator_is_the_function(state: StepState) -> None:
    plain.register_add_pairs()
    plain.register_add_pairs()
    weight = normal(33, 40, seed=2)
    state.products[0] = lambda rows: rows @ weight.T
    x, y = normal(8, 40), normal(8, 33)
    expected = y.clone()
    plain.add_pairs(expected, x, state, 0)
    torch.ops.flora.add_pairs(y, x, state.id, 0)
    assert torch.equal(y, expected)
