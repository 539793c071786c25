"""The paper's baseline in an engine: LoRA by `torch.bmm` (Wen & Chaudhuri, ICLR 2024, app. A.2).

It sits where fLoRA sits, around every linear layer's product, and gets its slots from the same
adapter manager. Nothing here is for serving.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from vllm.config import VllmConfig
from vllm.model_executor.layers.linear import LinearMethodBase
from vllm.platforms import current_platform
from vllm.utils.import_utils import resolve_obj_by_qualname

from benchmarks.bmm_lora import add_bmm_lora
from flora.lora_layout import LoraLayout
from replicas.lora_slab import LoraSlab
from replicas.slot_bank import SlotBank
from replicas.vllm_layout import read_shard, target_layers
from replicas.vllm_manager import FloraAdapterManager, FloraOptions, FloraWorkerExtension


class TokenSlots:
    """`slots`: int64 [max_num_tokens] on the device, at one address for life; 0 has no LoRA."""

    def __init__(self, max_num_tokens: int, device: torch.device) -> None:
        self.slots = torch.zeros(max_num_tokens, dtype=torch.int64, device=device)
        self._host = np.zeros(max_num_tokens, np.int64)
        self._used = 0

    def set_tokens(self, slots: Sequence[int] | NDArray[np.int64]) -> None:
        """Token t of the next step uses `slots[t]`; tokens beyond (padding) use slot 0."""
        used = max(len(slots), self._used)
        self._host[: len(slots)] = slots
        self._host[len(slots) : used] = 0
        self.slots[:used].copy_(torch.from_numpy(self._host[:used]))
        self._used = len(slots)


class BmmLinearMethod(LinearMethodBase):  # type: ignore[misc]
    """y_t = W x_t + b + B_t (A_t x_t), the latter by `torch.bmm`.

    `a`, `b`: a group's factors as LoraSlab has them, an item a member. All adapters are padded to
    the slab's rank, as they are in vLLM's LoRA. Reads as the base method to everybody else.
    """

    def __init__(
        self, base: Any, a: Sequence[torch.Tensor], b: Sequence[torch.Tensor], tokens: TokenSlots
    ) -> None:
        self._base = base
        self._slots = tokens.slots
        self._factors = list(zip(a, b, strict=True))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_base"], name)

    def create_weights(self, *args: Any, **kwargs: Any) -> None:
        self._base.create_weights(*args, **kwargs)

    def apply(
        self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """x: [..., num_tokens, in] -> [..., num_tokens, out]."""
        y: torch.Tensor = self._base.apply(layer, x, bias)
        flat_y, flat_x = y.view(-1, y.shape[-1]), x.reshape(-1, x.shape[-1])
        add_bmm_lora(flat_y, flat_x, self._factors, self._slots[: len(flat_x)])
        return y


class BmmManager(FloraAdapterManager):
    """Fills the slots of a LoRA slab instead of a fLoRA slab; the rank is the options' max_rank."""

    def create_lora_manager(self, model: torch.nn.Module, config: VllmConfig) -> torch.nn.Module:
        options, dtype = self._options, str(config.model_config.dtype).removeprefix("torch.")
        self.shard = read_shard(
            model,
            config,
            fingerprint=options.base_fingerprint,
            dtype=dtype,
            max_rank=options.max_rank,
        )
        layout = LoraLayout(replace(self.shard.layout, max_rank=options.max_rank))
        slab = LoraSlab(layout, options.num_slots, self._device)
        self._rows = SlotBank(slab, options.num_slots)
        scheduler = config.scheduler_config
        most = max(scheduler.max_num_batched_tokens, scheduler.max_num_seqs)
        tokens = TokenSlots(most, self._device)
        self._state: Any = tokens
        for group, layer in enumerate(target_layers(model).values()):
            layer.quant_method = BmmLinearMethod(
                layer.quant_method, slab.a[group], slab.b[group], tokens
            )
        return model


def load_bmm(
    runner: Any, model: torch.nn.Module, config: VllmConfig, device: torch.device
) -> torch.nn.Module:
    """What a model runner of vLLM does for LoRA, with the manager above."""
    options = FloraOptions.of(config)
    assert options is not None
    manager = runner.lora_manager = BmmManager(config, options, device)
    return manager.create_lora_manager(model, config)


def _platform_worker() -> Any:
    name = "cpu_worker.CPUWorker" if current_platform.is_cpu() else "gpu_worker.Worker"
    return resolve_obj_by_qualname(f"vllm.v1.worker.{name}")


class BmmWorker(_platform_worker(), FloraWorkerExtension):  # type: ignore[misc]
    """vLLM's worker, whose model runner is given the baseline in place of LoRA."""

    def load_model(self, *args: Any, **kwargs: Any) -> None:
        """As vLLM does."""
        self.model_runner.load_lora_model = partial(load_bmm, self.model_runner)
        super().load_model(*args, **kwargs)
