"""One tuned layer against the plain one, and against the weight that it stands for."""

from collections.abc import Sequence

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from flora.linear import FloraLinear, scaled_weight, to_values
from flora.peft import FloraConfig, TunedLinear

RANKS = {"one": 1, "two": 2, "three": 3}


def make_base(kind: str) -> nn.Linear | Conv1D:
    base = Conv1D(10, 6) if kind == "conv" else nn.Linear(6, 10)
    nn.init.normal_(base.bias)
    return base.requires_grad_(False)


def make_layer(kind: str = "linear", names: Sequence[str] = ("two",)) -> TunedLinear:
    torch.manual_seed(0)
    layer = TunedLinear(make_base(kind))
    for name in names:
        config = FloraConfig(r=RANKS[name], init_weights=False)
        layer.update_layer(name, config, "layer", None)
    layer.set_adapter(list(names[:1]))
    return layer


def expected(layer: TunedLinear, x: torch.Tensor, names: Sequence[str]) -> torch.Tensor:
    """By the weights, one adapter after the other."""
    base = layer.base_layer
    product = base.weight.T if isinstance(base, Conv1D) else base.weight
    for name in names:
        b, a = to_values(layer.flora_B[name]), to_values(layer.flora_A[name])
        product = product * (a.T @ b)
    y: torch.Tensor = x @ product.T + base.bias
    return y


@pytest.mark.parametrize("kind", ["linear", "conv"])
@pytest.mark.parametrize("name", list(RANKS))
def test_one_adapter_is_the_plain_layer(kind: str, name: str) -> None:
    layer, x = make_layer(kind, [name]), torch.randn(2, 3, 6)
    plain = FloraLinear(layer.base_layer, RANKS[name], torch.Generator(), layer.flora_B[name])
    plain.flora_A = layer.flora_A[name]
    torch.testing.assert_close(layer(x), plain(x), rtol=0, atol=0)
    torch.testing.assert_close(layer(x), expected(layer, x, [name]))


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_active_adapters_multiply(kind: str) -> None:
    layer, x = make_layer(kind, ["two", "three", "one"]), torch.randn(4, 6)
    layer.set_adapter(["two", "three", "one"])
    torch.testing.assert_close(layer(x), expected(layer, x, ["two", "three", "one"]))


@pytest.mark.parametrize("kind", ["linear", "conv"])
@pytest.mark.parametrize("names", [["two"], ["two", "three"]])
def test_a_merge_is_the_adapter_and_is_undone_bit_by_bit(kind: str, names: list[str]) -> None:
    layer, x = make_layer(kind, ["two", "three"]), torch.randn(4, 6)
    before = layer.base_layer.weight.clone()
    layer.set_adapter(names)
    unmerged = layer(x)
    layer.merge(safe_merge=True)
    assert layer.merged_adapters == names
    torch.testing.assert_close(layer(x), unmerged)
    layer.unmerge()
    torch.testing.assert_close(layer.base_layer.weight, before, rtol=0, atol=0)
    with pytest.warns(UserWarning, match="Already unmerged"):
        layer.unmerge()


def test_merges_one_by_one_round_once() -> None:
    layer = make_layer(names=["one", "two"])
    layer.base_layer.to(torch.bfloat16)
    exact = layer.base_layer.weight.float()
    for name in ("one", "two"):
        b, a = to_values(layer.flora_B[name].float()), to_values(layer.flora_A[name].float())
        exact = exact * (a.T @ b)
    layer.merge(adapter_names=["one"])
    with pytest.warns(UserWarning, match="additionally merging two"):
        layer.merge(adapter_names=["two"])
    torch.testing.assert_close(layer.base_layer.weight, exact.to(torch.bfloat16))
    with pytest.warns(UserWarning, match="All adapters are already merged"):
        layer.merge(adapter_names=["one"])


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_safe_merge_leaves_the_weight_alone(value: float) -> None:
    layer = make_layer()
    before = layer.base_layer.weight.clone()
    layer.flora_A["two"].data[0, 3] = value
    with pytest.raises(ValueError, match=r"NaNs detected in the merged weights\. The adapter two"):
        layer.merge(safe_merge=True)
    torch.testing.assert_close(layer.base_layer.weight, before, rtol=0, atol=0)
    assert not layer.merged


class Int8Linear(nn.Linear):
    """Quantised as bitsandbytes does it: int8 weights, a scale a row, more done in `forward`."""

    scale: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.weight * self.scale[:, None], self.bias)


def make_int8() -> TunedLinear:
    layer = make_layer()
    base: nn.Linear = layer.base_layer
    quantised = Int8Linear(6, 10)
    quantised.scale = base.weight.abs().amax(dim=1) / 127
    rounded = (base.weight / quantised.scale[:, None]).round().to(torch.int8)
    quantised.weight = nn.Parameter(rounded, requires_grad=False)
    quantised.bias = base.bias
    layer.base_layer = quantised
    return layer


def test_a_quantised_base_is_scaled_and_never_merged() -> None:
    layer, x = make_int8(), torch.randn(4, 6)
    base: Int8Linear = layer.base_layer
    plain = nn.Linear(6, 10)
    plain.weight = nn.Parameter(base.weight * base.scale[:, None])
    b, a = to_values(layer.flora_B["two"]), to_values(layer.flora_A["two"])
    product = x @ scaled_weight(plain, b, a).T
    torch.testing.assert_close(layer(x), product + base.bias)
    assert layer.flora_A["two"].dtype == torch.float32
    with pytest.raises(ValueError, match=r"Int8Linear of torch\.int8 cannot hold"):
        layer.merge()


@pytest.mark.parametrize("shape", [(5, 6), (5, 3, 6)])
def test_each_example_has_its_own_adapter(shape: tuple[int, ...]) -> None:
    layer, x = make_layer(names=list(RANKS)), torch.randn(shape)
    names = ["two", "__base__", "three", "two", "one"]
    mixed = layer(x, adapter_names=names)
    for i, name in enumerate(names):
        alone = expected(layer, x[i], [] if name == "__base__" else [name])
        torch.testing.assert_close(mixed[i], alone)
    with pytest.raises(ValueError, match="got 1 and 5 respectively"):
        layer(x, adapter_names=["two"])
    layer.merge()
    with pytest.raises(ValueError, match="merged adapters"):
        layer(x, adapter_names=names)


@pytest.mark.parametrize(
    "base", [nn.Embedding(4, 4), nn.Conv1d(2, 2, 1), nn.MultiheadAttention(4, 2).out_proj]
)
def test_what_is_no_linear_layer_is_refused(base: nn.Module) -> None:
    with pytest.raises(ValueError, match=f"target module {type(base).__name__} is neither"):
        TunedLinear(base)


def test_small_deviations_survive_bfloat16() -> None:
    layer = TunedLinear(nn.Linear(64, 64, bias=False).to(torch.bfloat16))
    layer.update_layer("default", FloraConfig(), "layer", None)
    layer.set_adapter("default")
    x = torch.randn(8, 64, dtype=torch.bfloat16)
    before = layer(x)
    layer.flora_A["default"].data.fill_(0.0035)  # 1 + 0.0035 is 1 in bfloat16
    assert (layer(x) != before).float().mean() > 0.1
