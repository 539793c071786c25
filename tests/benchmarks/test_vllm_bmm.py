"""The baseline's layer around a layer, against the small products of the LoRA that is served."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from vllm.config import VllmConfig

from benchmarks.vllm_bmm import BmmLinearMethod, BmmManager, TokenSlots, load_bmm
from replicas.kernels.lora import PlainLoraProducts
from tests.replicas.loras import filled_lora_slab, small_lora_layout

pytestmark = pytest.mark.vllm

LORAS = [(1, 0, 4, 2), (0, 0, 0, 3), (2, 2, 2, 0)]
STEPS = ([0, 1, 1, 3, 2, 0, 3], [2, 2], [0, 0, 0], [3, 0, 1, 2, 1])


class Base:
    """A linear method of vLLM, as far as it is called: outputs are the first inputs."""

    kind = "base"

    def __init__(self, out_features: int) -> None:
        self._out_features = out_features

    def apply(
        self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        return x[..., :1].expand(*x.shape[:-1], self._out_features).contiguous()


@pytest.mark.parametrize("group", [0, 1])
def test_steps_of_every_length_are_those_of_the_served_lora(tmp_path: Path, group: int) -> None:
    slab = filled_lora_slab(tmp_path, small_lora_layout(rank=8), LORAS)
    shape = slab.layout.base.groups[group]
    tokens = TokenSlots(16, slab.device)
    base = Base(shape.out_features)
    method = BmmLinearMethod(base, slab.a[group], slab.b[group], tokens)
    oracle = PlainLoraProducts(slab)
    assert method.kind == "base"
    for slots in STEPS:
        generator = torch.Generator().manual_seed(len(slots))
        x = torch.randn(len(slots) + 2, shape.in_features, generator=generator)  # two of padding
        expected = base.apply(torch.nn.Module(), x)
        tokens.set_tokens(slots)
        oracle.set_tokens([*slots, 0, 0])
        oracle.add(expected, x, group, False)
        found = method.apply(torch.nn.Module(), x)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        assert torch.equal(method.apply(torch.nn.Module(), x[None]), found[None])


def test_a_runner_gets_the_baselines_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def create(self: BmmManager, model: torch.nn.Module, config: VllmConfig) -> torch.nn.Module:
        seen.append(self)
        return model

    monkeypatch.setattr(BmmManager, "create_lora_manager", create)
    options = {"num_slots": 2, "max_rank": 8, "base_fingerprint": "x"}
    config: Any = SimpleNamespace(
        additional_config={"flora": options},
        parallel_config=SimpleNamespace(world_size=1, tensor_parallel_size=1),
    )
    runner, model = SimpleNamespace(), torch.nn.Linear(2, 2)
    assert load_bmm(runner, model, config, torch.device("cpu")) is model
    assert seen == [runner.lora_manager]
