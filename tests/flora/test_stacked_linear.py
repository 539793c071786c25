"""Every sequence of a stacked layer against a layer of its own adapter alone."""

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from contracts.errors import InvalidRequest
from flora.linear import FloraLinear
from flora.stacked_linear import Selection, StackedLinear

NUM_ADAPTERS = 4


def make_layer(kind: str, rank: int) -> tuple[StackedLinear, Selection]:
    generator, selection = torch.Generator().manual_seed(3), Selection()
    base = Conv1D(10, 6) if kind == "conv" else nn.Linear(6, 10, bias=kind == "bias")
    if kind != "plain":
        nn.init.normal_(base.bias, generator=generator)
    layer = StackedLinear(base, NUM_ADAPTERS, rank, generator, selection)
    nn.init.normal_(layer.flora_A, std=0.5, generator=generator)
    nn.init.normal_(layer.flora_B, std=0.5, generator=generator)
    return layer, selection


def alone(layer: StackedLinear, adapter: int) -> FloraLinear:
    single = FloraLinear(layer.base, layer.flora_A.shape[1], torch.Generator())
    single.flora_A.data = layer.flora_A.data[adapter].clone()
    single.flora_B.data = layer.flora_B.data[adapter].clone()
    return single


@pytest.mark.parametrize("kind", ["plain", "bias", "conv"])
@pytest.mark.parametrize("rank", [1, 3])
def test_values_and_gradients_are_those_of_each_adapter_alone(kind: str, rank: int) -> None:
    layer, selection = make_layer(kind, rank)
    adapters = [2, 0, 2, 3]
    selection.index = torch.tensor(adapters)
    x = torch.randn(4, 5, 6)
    y = layer(x)
    weights = torch.randn_like(y)
    (y * weights).sum().backward()
    singles = [alone(layer, k) for k in range(NUM_ADAPTERS)]
    for i, k in enumerate(adapters):
        expected = singles[k](x[i])
        torch.testing.assert_close(y[i], expected)
        (expected * weights[i]).sum().backward()
    for side in ("flora_A", "flora_B"):
        gradient = getattr(layer, side).grad
        for k in set(adapters):
            torch.testing.assert_close(gradient[k], getattr(singles[k], side).grad)
        assert not gradient[1].any()  # nobody's


def test_inputs_of_two_and_four_dimensions_and_of_short_dtypes() -> None:
    layer, selection = make_layer("bias", 2)
    selection.index = torch.tensor([1, 3])
    for shape in ((2, 6), (2, 3, 4, 6)):
        x = torch.randn(shape)
        y = layer(x)
        for i, k in enumerate((1, 3)):
            torch.testing.assert_close(y[i], alone(layer, k)(x[i]))
    layer.base.bfloat16()
    assert layer(torch.randn(2, 3, 6, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_a_layer_that_sees_something_else_than_sequences_is_named() -> None:
    layer, selection = make_layer("plain", 1)
    selection.index = torch.tensor([0, 1])
    with pytest.raises(InvalidRequest, match="6 rows for 2 sequences"):
        layer(torch.randn(6, 6))
