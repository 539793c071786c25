"""A whole layer by Triton's kernels as one operator; here they run in Triton's interpreter."""

from pathlib import Path

import pytest
import torch

from replicas.kernels.scaled_linear import (
    compile_kernels,
    register_scaled_linear,
    scaled_linear,
)
from replicas.step_state import StepState
from tests.replicas import token_loop
from tests.replicas.kernels.test_plain import ROWS, SLOTS, assert_near, normal
from tests.replicas.rows import filled_state, small_layout


@pytest.fixture
def state(tmp_path: Path) -> StepState:
    return filled_state(tmp_path, small_layout("int8"), ROWS, SLOTS)


@pytest.fixture
def weight(state: StepState) -> torch.Tensor:
    """Of group 0, whose product it becomes."""
    register_scaled_linear()
    weight = normal(33, 40, seed=2)
    state.products[0] = lambda rows: rows @ weight.T
    return weight


def test_one_product_for_all_pairs(state: StepState, weight: torch.Tensor) -> None:
    seen: list[int] = []

    def product(rows: torch.Tensor) -> torch.Tensor:
        seen.append(len(rows))
        return rows @ weight.T

    state.products[0] = product
    x, bias = normal(8, 40), normal(33, seed=3)
    found = scaled_linear(x, bias, state, 0, False)
    assert_near(found, token_loop.forward(state.slab, SLOTS, x, 0, weight, bias), 4)
    assert seen == [8 + 2 + 2 * 11]
    state.set_tokens([1, 0, 3])
    scaled_linear(x[:3], bias, state, 0, False)
    assert seen[1:] == [3]


def test_padding_behind_the_tokens_is_the_base_model(
    state: StepState, weight: torch.Tensor
) -> None:
    x = normal(20, 40)
    found = scaled_linear(x, None, state, 0, False)
    torch.testing.assert_close(found[len(SLOTS) :], (x @ weight.T)[len(SLOTS) :])


def test_one_graph_serves_every_step(state: StepState, weight: torch.Tensor) -> None:
    linear = torch.ops.flora.scaled_linear.default

    def layer(x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = linear(x, None, state.id, 0, 33, True)
        return y.relu() * 2

    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = normal(len(SLOTS), 40)
    for slots in ([0] * 8, [1] * 8, SLOTS, [4] * 8):
        state.set_tokens(slots)
        with torch.compiler.set_stance("default" if slots[0] == 0 else "fail_on_recompile"):
            found = compiled(x)
        exact = token_loop.forward(state.slab, slots, x, 0, weight, None)
        assert_near(found, exact.relu() * 2, 8)


def test_the_operator_does_what_its_schema_says(state: StepState, weight: torch.Tensor) -> None:
    register_scaled_linear()
    arguments = (normal(8, 40), normal(33), state.id, 0, 33, False)
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(torch.ops.flora.scaled_linear.default, arguments, test_utils=checks)


def test_a_warm_up_leaves_a_step_without_tokens(state: StepState) -> None:
    for bias in (None, normal(33)):
        compile_kernels(state, 0, bias, True, torch.bfloat16)
    assert not state.slots.any()
    assert not state.extra_rows.any()
