"""The adapter manager that a vLLM worker talks to, in place of its LoRA manager."""

import ctypes
import logging
import multiprocessing
import signal
from collections import Counter, deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from vllm.config import VllmConfig
from vllm.lora.request import LoRARequest

from contracts.errors import AdapterCorrupt, ServiceError
from flora.layout import AdapterLayout
from replicas.kernels.native import load_native
from replicas.kernels.plain import register_add_pairs
from replicas.slab import Slab
from replicas.slots import SlotTable, SlotWrite
from replicas.step_state import StepState
from replicas.vllm_layout import cache_layers, read_layout, target_layers
from replicas.vllm_linear import PlainLinearMethod, pick_method

logger = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class FloraOptions:
    """What travels to the worker in vLLM's `additional_config["flora"]`, a dictionary of these.

    `row_dtype`: "auto" stores adapters in the model's dtype, "int8" in half its bytes.
    `kernel`: "auto" takes the native op on a CPU with a compiler and plain tensor code elsewhere.
    """

    num_slots: int
    max_rank: int
    base_fingerprint: str
    row_dtype: str = "auto"
    kernel: str = "auto"

    @staticmethod
    def of(config: VllmConfig) -> "FloraOptions | None":
        """The engine's options, or None for an engine that is not ours."""
        extra = config.additional_config
        options = extra.get("flora") if isinstance(extra, dict) else None
        return None if options is None else FloraOptions(**options)


def die_with_parent() -> None:
    """End this process with the replica's: an orphaned engine would keep its memory for ever."""
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "prctl") and multiprocessing.parent_process() is not None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class FloraWorkerExtension:
    """What a replica may ask of the worker process; vLLM mixes it into its worker class."""

    model_runner: Any

    def flora_layout_json(self) -> str:
        """The layout of the loaded model as JSON text."""
        manager: FloraAdapterManager = self.model_runner.lora_manager
        return manager.layout.to_json()

    def flora_activation_hold_s(self) -> list[float]:
        """How long each activation since the last call held the engine loop, in seconds."""
        manager: FloraAdapterManager = self.model_runner.lora_manager
        held = list(manager.activation_hold_s)
        manager.activation_hold_s.clear()
        return held

    def flora_slot_counts(self) -> tuple[int, int]:
        """Slots in use now, and adapters that lost theirs to another since the start."""
        manager: FloraAdapterManager = self.model_runner.lora_manager
        return len(manager.list_adapters()), manager.num_evictions


class FloraAdapterManager:
    """Fills slots when vLLM activates adapters, and tells linear layers which slot a token uses.

    Has the methods that vLLM's model runners call on `LRUCacheWorkerLoRAManager`. An adapter
    arrives as a LoRARequest: its integer id is its identity here, its path the row file. Everything
    runs in the engine loop, so an activation is one file read straight into the slab.
    """

    is_enabled = True

    def __init__(self, config: VllmConfig, options: FloraOptions, device: torch.device) -> None:
        if config.parallel_config.world_size > 1:
            raise ServiceError("a fLoRA engine runs on one device: set tensor_parallel_size to 1")
        die_with_parent()
        self.layout: AdapterLayout
        self._config = config
        self._options = options
        self._device = device
        self._table = SlotTable(options.num_slots)
        self._dummies: set[int] = set()
        self._broken: set[int] = set()
        self._slab: Slab
        self._state: StepState
        self.activation_hold_s: deque[float] = deque(maxlen=4096)
        self.num_evictions = 0

    def create_lora_manager(self, model: torch.nn.Module, config: VllmConfig) -> torch.nn.Module:
        """Lay out the slab for a loaded model and put the scaling around its linear layers."""
        options = self._options
        model_dtype = str(config.model_config.dtype).removeprefix("torch.")
        self.layout = read_layout(
            model,
            config,
            fingerprint=options.base_fingerprint,
            dtype=model_dtype if options.row_dtype == "auto" else options.row_dtype,
            max_rank=options.max_rank,
        )
        self._slab = Slab(self.layout, options.num_slots, self._device)
        max_tokens = config.scheduler_config.max_num_batched_tokens
        self._state = StepState(self._slab, max(max_tokens, config.scheduler_config.max_num_seqs))
        self._wrap(model)
        return model

    def set_active_adapters(self, requests: set[LoRARequest], mapping: Any | None) -> None:
        """Before each step: an adapter of the batch gets a slot, a token its slot's number."""
        wanted = {request.lora_int_id: request for request in requests}
        for write in self._activate(wanted):
            try:
                self._fill(write.slot, wanted[write.adapter_id])
            except (OSError, AdapterCorrupt):
                # The step must go on for the others. `add_adapter` came before and told the caller.
                logger.exception("adapter %d has no row", write.adapter_id)
                self._slab.poison(write.slot)
                self._broken.add(write.adapter_id)
        if mapping is not None:
            slot_of = self._table.slot_of
            self._state.set_tokens([slot_of(i) for i in mapping.index_mapping])

    def add_adapter(self, request: LoRARequest) -> bool:
        """Load one adapter. Raises when its file is no good: only the caller's request fails."""
        adapter_id = request.lora_int_id
        if adapter_id in self._broken:
            self.remove_adapter(adapter_id)
        for write in (writes := self._activate([adapter_id])):
            try:
                self._fill(write.slot, request)
            except BaseException:
                self._table.release(adapter_id)
                raise
        return bool(writes)

    def remove_adapter(self, adapter_id: int) -> bool:
        self._broken.discard(adapter_id)
        return self._table.release(adapter_id)

    def remove_all_adapters(self) -> None:
        self._table.clear()

    def pin_adapter(self, adapter_id: int) -> bool:
        return self._table.pin(adapter_id)

    def list_adapters(self) -> set[int]:
        return set(self._table.resident)

    @contextmanager
    def dummy_lora_cache(self) -> Iterator[None]:
        """vLLM's warm-up runs with made-up adapters: here they are identities in real slots."""
        yield
        self._dummies.clear()

    def add_dummy_lora(self, request: LoRARequest, rank: int) -> bool:
        self._dummies.add(request.lora_int_id)
        return True

    def get_dummy_lora_warmup_rank(self, default_rank: int) -> int:
        return default_rank

    def supports_tower_connector_lora(self) -> bool:
        return False

    def _activate(self, adapter_ids: Collection[int]) -> tuple[SlotWrite, ...]:
        writes = self._table.activate(adapter_ids)
        self.num_evictions += sum(write.evicted_id != 0 for write in writes)
        return writes

    def _fill(self, slot: int, request: LoRARequest) -> None:
        started_s = perf_counter()
        if request.lora_int_id in self._dummies:
            self._slab.wipe(slot)
        else:
            self._slab.load(slot, Path(request.lora_path))
        self.activation_hold_s.append(perf_counter() - started_s)

    def _wrap(self, model: torch.nn.Module) -> None:
        register_add_pairs()
        use_native = self._use_native()
        kinds: Counter[str] = Counter()
        bounded = cache_layers(model)
        for group, (name, layer) in enumerate(target_layers(model).items()):
            method = pick_method(layer) if use_native else PlainLinearMethod
            layer.quant_method = method(
                layer.quant_method, layer, self._state, group, name in bounded
            )
            kinds[method.__name__] += 1
        logger.info("fLoRA on %d linear layers: %s", len(self.layout.groups), dict(kinds))

    def _use_native(self) -> bool:
        if self._options.kernel == "plain" or self._device.type != "cpu":
            return False
        return load_native()
