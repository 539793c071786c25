"""The small products of a step against one token at a time."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from replicas.kernels.lora import (
    LoraProducts,
    NativeLoraProducts,
    PlainLoraProducts,
    register_products,
)
from replicas.kernels.native import load_native_lora
from replicas.lora_slab import LoraSlab
from tests.replicas.loras import filled_lora_slab, small_lora_layout

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
LORAS = [(1, 0, 4, 2), (0, 0, 0, 3), (2, 2, 2, 0)]
SLOTS = [0, 1, 3, 3, 2, 0, 1, 3]


@pytest.fixture(params=["plain", "native"])
def make_products(request: pytest.FixtureRequest) -> Callable[[LoraSlab], LoraProducts]:
    if request.param == "plain":
        return PlainLoraProducts
    assert load_native_lora()
    return NativeLoraProducts


Make = Callable[[LoraSlab], LoraProducts]


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def one_by_one(
    slab: LoraSlab, slots: list[int], y: torch.Tensor, x: torch.Tensor, group: int
) -> torch.Tensor:
    """y + B (A x) in float64, token by token, over the whole padded matrices."""
    exact = y.double()
    for token, slot in enumerate(slots):
        parts = [
            b[slot, 0].double() @ (a[slot, 0].double() @ x[token].double())
            for a, b in zip(slab.a[group], slab.b[group], strict=True)
        ]
        exact[token] += torch.cat(parts)
    return exact


def assert_near(found: torch.Tensor, exact: torch.Tensor) -> None:
    """Within the roundings of x A, of that times B, and of the sum."""
    allowed = 8 * torch.finfo(found.dtype).eps * float(exact.abs().max())
    assert float((found.double() - exact).abs().max()) <= allowed


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("group", [0, 1])
def test_products_agree_with_the_token_loop(
    tmp_path: Path, make_products: Make, dtype: str, group: int
) -> None:
    slab = filled_lora_slab(tmp_path, small_lora_layout(dtype), LORAS)
    products = make_products(slab)
    products.set_tokens(SLOTS)
    shape = slab.layout.base.groups[group]
    x = normal(len(SLOTS), shape.in_features, dtype=DTYPES[dtype])
    y = normal(len(SLOTS), shape.out_features, seed=1, dtype=DTYPES[dtype])
    exact = one_by_one(slab, SLOTS, y, x, group)
    products.add(y, x, group, False)
    assert_near(y, exact)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[LoraSlab, list[LoraProducts]]:
    slab = filled_lora_slab(tmp_path_factory.mktemp("rows"), small_lora_layout(), LORAS)
    assert load_native_lora()
    return slab, [PlainLoraProducts(slab), NativeLoraProducts(slab)]


@settings(deadline=None)
@given(slots=st.lists(st.integers(0, 3), max_size=24))
def test_any_order_of_tokens(both: tuple[LoraSlab, list[LoraProducts]], slots: list[int]) -> None:
    slab, ways = both
    x, before = normal(len(slots), 40), normal(len(slots), 33, seed=1)
    exact = one_by_one(slab, slots, before, x, 0)
    for products in ways:
        products.set_tokens(slots)
        assert products.is_idle == (not any(slots))
        y = before.clone()
        if not products.is_idle:
            products.add(y, x, 0, False)
        torch.testing.assert_close(y.double(), exact, rtol=1e-5, atol=1e-5)
        assert all(torch.equal(y[t], before[t]) for t in tokens_of(slots, 0))


def tokens_of(slots: list[int], slot: int) -> list[int]:
    return [token for token, of_token in enumerate(slots) if of_token == slot]


def test_padding_behind_the_tokens_stays_as_it_is(tmp_path: Path, make_products: Make) -> None:
    products = make_products(filled_lora_slab(tmp_path, small_lora_layout(), LORAS))
    products.set_tokens(SLOTS)
    x, y = normal(20, 40), normal(20, 33)
    before = y.clone()
    products.add(y, x, 0, False)
    assert torch.equal(y[len(SLOTS) :], before[len(SLOTS) :])
    assert not torch.equal(y[1], before[1])


def test_a_poisoned_slot_reaches_its_own_tokens_alone_and_is_bounded_where_asked(
    tmp_path: Path, make_products: Make
) -> None:
    slab = filled_lora_slab(tmp_path, small_lora_layout(), LORAS)
    products = make_products(slab)
    slab.poison(1)
    products.set_tokens(SLOTS)
    x, y, bounded = normal(8, 40), normal(8, 33), normal(8, 33)
    products.add(y, x, 0, False)
    assert y.isnan().any(dim=1).tolist() == [slot == 1 for slot in SLOTS]
    products.add(bounded, x, 0, True)
    assert bounded.isfinite().all()
    assert torch.equal(bounded[2:6], y[2:6])


def test_the_operator_is_the_function(tmp_path: Path) -> None:
    products = PlainLoraProducts(filled_lora_slab(tmp_path, small_lora_layout(), LORAS))
    number = register_products(products)
    x = normal(8, 40)
    for slots in (SLOTS, [0] * 8):
        products.set_tokens(slots)
        y, expected = normal(8, 33), normal(8, 33)
        torch.ops.flora.add_lora(y, x, number, 0, False)
        if any(slots):
            products.add(expected, x, 0, False)
        assert torch.equal(y, expected)


def test_it_stays_in_one_graph(tmp_path: Path) -> None:
    products = PlainLoraProducts(filled_lora_slab(tmp_path, small_lora_layout(), LORAS))
    number = register_products(products)
    products.set_tokens(SLOTS)

    def layer(x: torch.Tensor) -> torch.Tensor:
        y = x[:, :33] * 2
        torch.ops.flora.add_lora(y, x, number, 0, True)
        return y + 1

    x = normal(8, 40)
    whole = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert torch.equal(whole(x), layer(x))
