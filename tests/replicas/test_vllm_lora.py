"""Our small products against vLLM's own operators, and the layer around a layer."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from vllm.config import SchedulerConfig, VllmConfig
from vllm.config.lora import LoRAConfig

from replicas.kernels.lora import PlainLoraProducts, register_products
from replicas.vllm_lora import LoraLinearMethod, PunicaLoraProducts
from tests.replicas.loras import filled_lora_slab, small_lora_layout

pytestmark = pytest.mark.vllm

LORAS = [(1, 0, 4, 2), (0, 0, 0, 3), (2, 2, 2, 0)]
STEPS = ([0, 1, 1, 3, 2, 0, 3], [2, 2], [0, 0, 0], [3, 0, 1, 2, 1])


def make_config() -> VllmConfig:
    """As much of vLLM's configuration as its LoRA kernels read."""
    parts: dict[str, Any] = {
        "lora_config": LoRAConfig(max_lora_rank=1, max_loras=8, max_cpu_loras=8),
        "model_config": SimpleNamespace(get_vocab_size=lambda: 100),
        "scheduler_config": cast(
            SchedulerConfig, SimpleNamespace(max_num_batched_tokens=32, max_num_seqs=8)
        ),
    }
    return cast(VllmConfig, SimpleNamespace(**parts))


@pytest.mark.parametrize("group", [0, 1])
def test_vllms_operators_agree(tmp_path: Path, group: int) -> None:
    # A spare slot: for a token without a LoRA vLLM's operators for a CPU read the last one.
    slab = filled_lora_slab(tmp_path, small_lora_layout(rank=8), LORAS, num_spare=1)
    ours, theirs = PlainLoraProducts(slab), PunicaLoraProducts(slab, make_config())
    shape = slab.layout.base.groups[group]
    for slots in STEPS:
        found = []
        for products in (ours, theirs):
            generator = torch.Generator().manual_seed(len(slots))
            x = torch.randn(len(slots), shape.in_features, generator=generator)
            y = torch.randn(len(slots), shape.out_features, generator=generator)
            products.set_tokens(slots)
            if not products.is_idle:
                products.add(y, x, group, False)
            found.append(y)
        torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)


class Base:
    """A linear method of vLLM, as far as it is called; doubles the first outputs of x."""

    kind = "base"

    def apply(
        self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        return (x[..., :33] * 2).contiguous()


def test_a_layer_adds_to_its_base_in_either_shape(tmp_path: Path) -> None:
    products = PlainLoraProducts(filled_lora_slab(tmp_path, small_lora_layout(), LORAS))
    method = LoraLinearMethod(Base(), products, register_products(products), 0, False)
    products.set_tokens([0, 1, 3])
    x = torch.randn(3, 40, generator=torch.Generator().manual_seed(0))
    flat = method.apply(torch.nn.Module(), x)
    expected = x[:, :33] * 2
    products.add(expected, x, 0, False)
    assert torch.equal(flat, expected)
    assert torch.equal(method.apply(torch.nn.Module(), x[None]), flat[None])
    assert method.kind == "base"
