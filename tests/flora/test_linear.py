"""FloraLinear against the definition, and materialised models against wrapped ones."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from contracts.errors import InvalidRequest
from flora.codec import materialize
from flora.linear import (
    FloraLinear,
    linear_features,
    linear_modules,
    materialize_into,
    materialized,
)
from tests.flora.models import make_model


def make_layer(kind: str, rank: int, bias: bool = True) -> FloraLinear:
    generator = torch.Generator().manual_seed(3)
    base = Conv1D(10, 6) if kind == "conv" else nn.Linear(6, 10, bias=bias)
    if bias:
        nn.init.normal_(base.bias, generator=generator)
    layer = FloraLinear(base, rank, generator)
    nn.init.normal_(layer.flora_A, std=0.5, generator=generator)
    nn.init.normal_(layer.flora_B, std=0.5, generator=generator)
    return layer


def full_values(layer: FloraLinear) -> tuple[np.ndarray, np.ndarray]:
    origin = torch.zeros(len(layer.flora_A), 1)
    origin[0] = 1
    b, a = (layer.flora_B + origin).detach(), (layer.flora_A + origin).detach()
    return b.numpy(), a.numpy()


@pytest.mark.parametrize("kind", ["linear", "conv"])
@pytest.mark.parametrize("rank", [1, 2, 4])
def test_the_layer_is_the_definition(kind: str, rank: int) -> None:
    layer = make_layer(kind, rank)
    x = torch.randn(2, 3, 6)
    weight = layer.base.weight.T if kind == "conv" else layer.base.weight
    changed = torch.from_numpy(materialize(weight.detach().numpy(), *full_values(layer)))
    torch.testing.assert_close(layer(x), x @ changed.T + layer.base.bias)


@pytest.mark.parametrize("rank", [1, 3])
def test_a_new_layer_is_the_identity(rank: int) -> None:
    base = nn.Linear(6, 10, bias=False)
    layer = FloraLinear(base, rank, torch.Generator())
    x = torch.randn(5, 6)
    torch.testing.assert_close(layer(x), base(x), rtol=0, atol=0)
    assert linear_features(base) == (6, 10)
    assert linear_features(Conv1D(10, 6)) == (6, 10)


def test_every_pair_of_a_new_layer_learns() -> None:
    layer = FloraLinear(nn.Linear(6, 10), 3, torch.Generator())
    layer(torch.randn(5, 6)).square().sum().backward()
    assert layer.flora_A.grad is not None
    assert layer.flora_A.grad.abs().sum(dim=1).min() > 0
    assert layer.base.weight.grad is None


def test_the_dtype_is_the_inputs() -> None:
    layer = make_layer("linear", 2)
    layer.base.to(torch.bfloat16)
    assert layer(torch.randn(5, 6, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_bigcode"])
def test_materialised_models_equal_wrapped_ones(kind: str) -> None:
    model, generator, modules = make_model(kind), torch.Generator().manual_seed(5), {}
    wrapped = make_model(kind)
    for name, base in linear_modules(wrapped).items():
        layer = FloraLinear(base, 2, generator)
        nn.init.normal_(layer.flora_A, std=0.3, generator=generator)
        wrapped.set_submodule(name, layer)
        modules[name] = full_values(layer)
    ids = torch.arange(12).reshape(2, 6)
    with torch.no_grad():
        before = model(input_ids=ids).logits
        expected = wrapped(input_ids=ids).logits
        torch.testing.assert_close(
            materialized(model, modules)(input_ids=ids).logits, expected, rtol=1e-4, atol=1e-5
        )
        torch.testing.assert_close(model(input_ids=ids).logits, before, rtol=0, atol=0)
    assert (expected - before).abs().max() > 0.01


def test_a_tied_embedding_is_left_alone() -> None:
    model = make_model()
    embedding = model.model.embed_tokens.weight
    before = embedding.detach().clone()
    scales = np.full((1, 32), 2, np.float32), np.ones((1, embedding.shape[0]), np.float32)
    materialize_into(model, {"lm_head": scales})
    torch.testing.assert_close(embedding, before, rtol=0, atol=0)
    torch.testing.assert_close(model.lm_head.weight, 2 * before)


def test_unknown_modules_are_refused() -> None:
    scales = np.ones((1, 2), np.float32), np.ones((1, 2), np.float32)
    for name in ("nothing", "model.norm"):
        with pytest.raises(InvalidRequest, match="no linear layer"):
            materialize_into(make_model(), {name: scales})
