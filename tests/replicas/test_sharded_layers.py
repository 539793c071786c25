"""Layers whose weight and row two devices share are, together, the layer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import linear

from flora.layout import AdapterLayout
from flora.shard import Shard
from replicas.slab import Slab
from replicas.step_state import StepState
from replicas.vllm_linear import FloraLinearMethod, NativeLinearMethod, PlainLinearMethod
from tests.flora.shards import Split, SplitGroup, make_shards
from tests.replicas.rows import CPU, write_row

# Queries are split, keys and values are on both; then a layer whose inputs are split.
GROUPS = (
    SplitGroup(Split(24, 1), ((Split(20, 2),), (Split(10, 1),), (Split(10, 1),))),
    SplitGroup(Split(20, 2), ((Split(24, 1),),)),
)
EXTRA_PAIRS = [(0, 0), (2, 0), (5, 1)]
SLOTS = [0, 3, 1, 2, 2, 0, 3, 1]


class BaseMethod:
    """What vLLM's own method of an unquantised layer does."""

    def apply(
        self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        assert isinstance(layer, torch.nn.Linear)
        return linear(x, layer.weight, bias)


@dataclass
class Device:
    """One device's layers, with fLoRA around them."""

    layers: list[torch.nn.Linear]
    methods: list[FloraLinearMethod]

    def run(self, group: int, x: torch.Tensor, has_bias: bool = True) -> torch.Tensor:
        layer = self.layers[group]
        return self.methods[group].apply(layer, x, layer.bias if has_bias else None)


def make_device(
    method: type[FloraLinearMethod],
    layout: AdapterLayout,
    shard: Shard | None,
    folder: Path,
    layers: list[torch.nn.Linear],
) -> Device:
    slab = Slab(layout, len(EXTRA_PAIRS), CPU, shard)
    for slot in range(1, len(EXTRA_PAIRS) + 1):
        slab.load(slot, folder / str(slot))
    state = StepState(slab, 32)
    state.set_tokens(SLOTS)
    base: Any = BaseMethod()
    methods = [method(base, layer, state, g, g == 0) for g, layer in enumerate(layers)]
    return Device(layers, methods)


def make_layer(weight: torch.Tensor, bias: torch.Tensor) -> torch.nn.Linear:
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0]).requires_grad_(False)
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)
    return layer


def own_rows(shard: Shard, group: int) -> list[int]:
    spans = [span for member in shard.groups[group].outputs for span in member]
    return [n for span in spans for n in range(span.first, span.first + span.count)]


@pytest.mark.usefixtures("native_ops")
@pytest.mark.parametrize("method", [NativeLinearMethod, PlainLinearMethod])
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_two_devices_are_one_layer(
    tmp_path: Path, method: type[FloraLinearMethod], dtype: str
) -> None:
    shards = make_shards(GROUPS, 2, dtype, max_rank=2)
    layout = shards[0].whole
    for slot, extra_pairs in enumerate(EXTRA_PAIRS, start=1):
        write_row(tmp_path / str(slot), layout, extra_pairs, seed=slot)
    generator = torch.Generator().manual_seed(0)
    sizes = [(group.out_features, group.in_features) for group in layout.groups]
    weights = [torch.randn(size, generator=generator) for size in sizes]
    biases = [torch.randn(size[0], generator=generator) for size in sizes]
    whole_layers = [make_layer(*pair) for pair in zip(weights, biases, strict=True)]
    whole = make_device(method, layout, None, tmp_path, whole_layers)
    x = torch.randn(len(SLOTS), 24, generator=generator)
    stacked = whole.run(0, x)
    total = whole.run(1, stacked[:, :40])

    summed = torch.zeros_like(total)
    for rank, shard in enumerate(shards):
        rows, inputs = own_rows(shard, 0), shard.groups[1].inputs
        columns = slice(inputs.first, inputs.first + inputs.count)
        layers = [
            make_layer(weights[0][rows], biases[0][rows]),
            make_layer(weights[1][:, columns], biases[1]),
        ]
        device = make_device(method, shard.layout, shard, tmp_path, layers)
        own = device.run(0, x)
        torch.testing.assert_close(own, stacked[:, rows], rtol=1e-5, atol=1e-5)
        # The first device adds the bias, as in vLLM.
        summed += device.run(1, own[:, : inputs.count], has_bias=rank == 0)
    torch.testing.assert_close(summed, total, rtol=1e-4, atol=1e-3)
