from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import linear

from flora.codec import compile_adapter, decompile, materialize
from flora.layout import AdapterLayout
from replicas.slab import TORCH_DTYPES, Slab
from replicas.step_state import StepState
from replicas.vllm_linear import (
    FloraLinearMethod,
    NativeLinearMethod,
    PlainLinearMethod,
    TritonLinearMethod,
)
from tests.flora.adapters import LIMITS, make_files
from tests.flora.layouts import make_group, make_layout
from tests.replicas.rows import CPU

METHODS = [NativeLinearMethod, PlainLinearMethod, TritonLinearMethod]
KINDS = [(rank, is_tied) for rank in (1, 2, 3, 4) for is_tied in (True, False)]
"""Slot i + 1 holds an adapter of `KINDS[i]`; slot 0 is the base model."""
SLOTS = [0, 3, 8, 1, 2, 7, 4, 0, 6, 5, 8, 3]
TOLERANCE = {"float32": 1e-5, "bfloat16": 4e-2, "float16": 5e-3}
"""By the activations' dtype; rows have the same, or are int8 and exact as they are stored."""


class BaseMethod:
    """What vLLM's own method of an unquantised layer does."""

    name = "base"

    def __init__(self) -> None:
        self.created: list[Any] = []

    def create_weights(self, *args: Any, **kwargs: Any) -> None:
        self.created.append((args, kwargs))

    def apply(
        self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        assert isinstance(layer, torch.nn.Linear)
        return linear(x, layer.weight, bias)


def two_groups(dtype: str) -> AdapterLayout:
    return make_layout(make_group("qkv", 24, (24, 10, 10)), make_group("o", 24, (24,)), dtype=dtype)


def adapter_blob(layout: AdapterLayout, rank: int, is_tied: bool, seed: int) -> bytes:
    """Of both groups; the fused one's last member stays the base model's."""
    rng = np.random.default_rng(seed)
    tensors: dict[tuple[str, str], Any] = {}
    for group in layout.groups:
        shared = rng.normal(0, 0.3, (rank, group.in_features))
        for member in group.members[:2]:
            own = rng.normal(0, 0.3, (rank, group.in_features))
            tensors[member.name, "A"] = rng.normal(0, 0.3, (rank, member.out_features))
            tensors[member.name, "B"] = shared if is_tied else own
    return compile_adapter(layout, make_files(tensors, rank, tie_inputs=is_tied), LIMITS).blob


@dataclass
class Fixture:
    """A slab with every kind of adapter, and the layers of both groups with fLoRA around them."""

    layout: AdapterLayout
    state: StepState
    layers: list[torch.nn.Linear]
    methods: list[FloraLinearMethod]
    blobs: list[bytes]

    def merged(self, slot: int, group: int) -> torch.Tensor:
        """The weight [out, in] that the slot's adapter makes of a layer's, member by member."""
        weight = self.layers[group].weight.detach().float().numpy()
        if slot == 0:
            return torch.from_numpy(weight)
        scales = decompile(self.layout, self.blobs[slot - 1])
        shape = self.layout.groups[group]
        parts = []
        for m, member in enumerate(shape.members):
            begin = shape.out_offset(m)
            part = weight[begin : begin + member.out_features]
            parts.append(materialize(part, *scales[member.name]))
        return torch.from_numpy(np.concatenate(parts))

    def exact(self, slots: Sequence[int], x: torch.Tensor, group: int) -> torch.Tensor:
        bias: torch.Tensor | None = self.layers[group].bias
        shift = 0 if bias is None else bias.double()
        rows = [self.merged(s, group).double() @ x[t].double() for t, s in enumerate(slots)]
        return torch.stack(rows) + shift


def make_fixture(
    directory: Path,
    method: type[FloraLinearMethod],
    dtype: str = "float32",
    bias: bool = True,
    row_dtype: str | None = None,
) -> Fixture:
    layout = two_groups(row_dtype or dtype)
    slab = Slab(layout, len(KINDS), CPU)
    blobs = [adapter_blob(layout, *kind, seed) for seed, kind in enumerate(KINDS)]
    for slot, blob in enumerate(blobs, start=1):
        (directory / "row").write_bytes(blob)
        slab.load(slot, directory / "row")
    state = StepState(slab, 32)
    generator = torch.Generator().manual_seed(0)
    layers = [torch.nn.Linear(g.in_features, g.out_features, bias) for g in layout.groups]
    for layer in layers:
        layer.requires_grad_(False)
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
        layer.to(TORCH_DTYPES[dtype])
    # As in a model: what goes to the cache is bounded, what comes from the MLP is not.
    methods = [method(BaseMethod(), layer, state, g, g == 0) for g, layer in enumerate(layers)]
    return Fixture(layout, state, layers, methods, blobs)


def inputs(num_tokens: int, dtype: str = "float32") -> torch.Tensor:
    x = torch.randn(num_tokens, 24, generator=torch.Generator().manual_seed(1))
    return x.to(TORCH_DTYPES[dtype])


@pytest.mark.usefixtures("native_ops")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("row_dtype", [None, "int8"])
def test_every_token_gets_its_own_weight(
    tmp_path: Path, method: type[FloraLinearMethod], dtype: str, bias: bool, row_dtype: str | None
) -> None:
    fixture = make_fixture(tmp_path, method, dtype, bias, row_dtype)
    x = inputs(len(SLOTS), dtype)
    fixture.state.set_tokens(SLOTS)
    for group, layer in enumerate(fixture.layers):
        y = fixture.methods[group].apply(layer, x, layer.bias)
        assert y.dtype == x.dtype
        exact = fixture.exact(SLOTS, x, group)
        scale = float(exact.abs().max())
        assert float((y.double() - exact).abs().max()) < TOLERANCE[dtype] * scale


@pytest.mark.usefixtures("native_ops")
@pytest.mark.parametrize("method", METHODS)
def test_a_batch_dimension_in_front_changes_nothing(
    tmp_path: Path, method: type[FloraLinearMethod]
) -> None:
    fixture = make_fixture(tmp_path, method)
    x, layer = inputs(len(SLOTS)), fixture.layers[0]
    fixture.state.set_tokens(SLOTS)
    flat = fixture.methods[0].apply(layer, x, layer.bias)
    for shape in ([1, 12], [3, 4]):
        y = fixture.methods[0].apply(layer, x.view(*shape, 24), layer.bias)
        assert y.shape == (*shape, 44)
        assert torch.equal(y.view(12, 44), flat)


@pytest.mark.usefixtures("native_ops")
@pytest.mark.parametrize("method", METHODS)
def test_the_base_model_is_the_base_model_to_the_bit(
    tmp_path: Path, method: type[FloraLinearMethod]
) -> None:
    fixture = make_fixture(tmp_path, method, bias=False)
    fixture.state.set_tokens(SLOTS)
    x, layer = inputs(12), fixture.layers[0]
    y = fixture.methods[0].apply(layer, x)
    base = BaseMethod().apply(layer, x)
    same = (y == base).all(dim=1).tolist()
    assert same == [slot == 0 for slot in SLOTS]


@pytest.mark.usefixtures("native_ops")
@pytest.mark.parametrize("method", METHODS)
def test_a_bias_that_the_caller_adds_itself_is_not_added(
    tmp_path: Path, method: type[FloraLinearMethod]
) -> None:
    fixture = make_fixture(tmp_path, method)
    fixture.state.set_tokens(SLOTS)
    x, layer = inputs(12), fixture.layers[1]
    with_bias = fixture.methods[1].apply(layer, x, layer.bias)
    without = fixture.methods[1].apply(layer, x, None)
    torch.testing.assert_close(with_bias - without, layer.bias.expand(12, -1))


@pytest.mark.usefixtures("native_ops")
@pytest.mark.parametrize("method", METHODS)
def test_inputs_stay_as_they_are(tmp_path: Path, method: type[FloraLinearMethod]) -> None:
    fixture = make_fixture(tmp_path, method)
    fixture.state.set_tokens(SLOTS)
    x = inputs(12)
    fixture.methods[0].apply(fixture.layers[0], x, None)
    assert torch.equal(x, inputs(12))


@pytest.mark.usefixtures("native_ops")
def test_a_strided_input_is_taken_as_it_comes(tmp_path: Path) -> None:
    fixture = make_fixture(tmp_path, NativeLinearMethod)
    fixture.state.set_tokens(SLOTS)
    wide = torch.cat([inputs(12), inputs(12)], dim=1)
    layer = fixture.layers[0]
    found = fixture.methods[0].apply(layer, wide[:, :24], layer.bias)
    assert torch.equal(found, fixture.methods[0].apply(layer, inputs(12), layer.bias))


def test_everything_else_is_the_base_methods(tmp_path: Path) -> None:
    method = make_fixture(tmp_path, PlainLinearMethod).methods[0]
    assert method.name == "base"
    method.create_weights("layer", input_size=3)
    assert method.created == [(("layer",), {"input_size": 3})]
    with pytest.raises(AttributeError):
        _ = method.no_such_thing
