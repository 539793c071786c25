"""The adapter manager that a vLLM worker talks to, in place of its LoRA manager."""

import ctypes
import logging
import multiprocessing
import signal
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from vllm.config import VllmConfig
from vllm.lora.request import LoRARequest

from contracts.errors import AdapterCorrupt, ServiceError
from flora.lora_row import is_lora
from flora.shard import Shard
from replicas.kernels.choice import choose_kernel
from replicas.kernels.plain import register_add_pairs
from replicas.slab import Slab
from replicas.slot_bank import SlotBank
from replicas.slots import IDENTITY_SLOT
from replicas.step_state import StepState
from replicas.vllm_layout import cache_layers, read_shard, target_layers
from replicas.vllm_linear import pick_method
from replicas.vllm_lora import LoraOptions, VllmLora
from replicas.vllm_speech import EncoderTokens, reads_encoder

logger = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class FloraOptions:
    """What travels to the worker in vLLM's `additional_config["flora"]`, a dictionary of these.

    `row_dtype`: "auto" stores adapters in the model's dtype, "int8" in half its bytes.
    `kernel`: "auto" takes the best for the device (`choose_kernel`).
    `lora_rank` 0: no LoRA adapters.
    """

    num_slots: int
    max_rank: int
    base_fingerprint: str
    row_dtype: str = "auto"
    kernel: str = "auto"
    lora_rank: int = 0
    lora_slots: int = 0

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
        """The layout of the loaded model, all devices together, as JSON text."""
        manager: FloraAdapterManager = self.model_runner.lora_manager
        return manager.shard.whole.to_json()

    def flora_load(self, request: LoRARequest) -> str:
        """Load one adapter. What went wrong, nothing if all went well: it raises for no file."""
        manager: FloraAdapterManager = self.model_runner.lora_manager
        try:
            manager.add_adapter(request)
        except (OSError, AdapterCorrupt) as error:
            logger.warning("adapter %d has no row: %s", request.lora_int_id, error)
            return str(error) or type(error).__name__
        return ""

    def flora_lora_layout_json(self) -> str:
        """The layout of its LoRA adapters as JSON text; empty where it takes none."""
        manager: FloraAdapterManager = self.model_runner.lora_manager
        return "" if manager.lora is None else manager.lora.layout.base.to_json()

    def flora_activation_hold_s(self) -> list[float]:
        """How long each activation since the last call held the engine loop, in seconds."""
        manager: FloraAdapterManager = self.model_runner.lora_manager
        held = [hold_s for bank in manager.banks for hold_s in bank.activation_hold_s]
        for bank in manager.banks:
            bank.activation_hold_s.clear()
        return held

    def flora_slot_counts(self) -> list[tuple[int, int]]:
        """For fLoRA, then for LoRA where it is on: slots in use now, and adapters that lost theirs
        to another since the start.
        """
        manager: FloraAdapterManager = self.model_runner.lora_manager
        return [(len(bank.resident), bank.num_evictions) for bank in manager.banks]


class FloraAdapterManager:
    """Fills slots when vLLM activates adapters, and tells linear layers which slot a token uses.

    Has the methods that vLLM's model runners call on `LRUCacheWorkerLoRAManager`. An adapter
    arrives as a LoRARequest: its integer id is its identity here, its path the row file, which says
    of which kind it is. Each kind has a bank of slots; an adapter has no slot in the other's, which
    is that kind's identity. Where several devices share the model, each has a manager of its own,
    which takes its part of the row.
    """

    is_enabled = True

    def __init__(self, config: VllmConfig, options: FloraOptions, device: torch.device) -> None:
        parallel = config.parallel_config
        if parallel.world_size != parallel.tensor_parallel_size:
            raise ServiceError("the devices of a fLoRA engine share every layer: no pipeline")
        die_with_parent()
        self.shard: Shard
        self.lora: VllmLora | None = None
        self._config = config
        self._options = options
        self._device = device
        self._dummies: set[int] = set()
        self._slab: Slab
        self._rows: SlotBank
        self._state: StepState
        self._encoder_state: StepState

    def create_lora_manager(self, model: torch.nn.Module, config: VllmConfig) -> torch.nn.Module:
        """Lay out the slab for a loaded model and put the scaling around its linear layers."""
        options = self._options
        model_dtype = str(config.model_config.dtype).removeprefix("torch.")
        self.shard = read_shard(
            model,
            config,
            fingerprint=options.base_fingerprint,
            dtype=model_dtype if options.row_dtype == "auto" else options.row_dtype,
            max_rank=options.max_rank,
        )
        shard = None if self.shard.is_whole else self.shard
        slab = self._slab = Slab(self.shard.layout, options.num_slots, self._device, shard)
        self._rows = SlotBank(slab, options.num_slots)
        max_tokens = config.scheduler_config.max_num_batched_tokens
        self._state = StepState(slab, max(max_tokens, config.scheduler_config.max_num_seqs))
        self._encoder_state = self._state
        if config.model_config.is_encoder_decoder:
            positions = config.model_config.hf_config.max_source_positions
            max_positions = positions * config.scheduler_config.max_num_seqs
            self._encoder_state = StepState(slab, max(max_positions, max_tokens))
            if options.lora_rank:
                raise ServiceError("replica.lora_rank is for models of text; this one listens")
        if options.lora_rank:
            lora = LoraOptions(options.lora_rank, options.lora_slots, options.kernel)
            self.lora = VllmLora(self.shard.whole, lora, config, self._device)
        self._wrap(model, config.model_config.dtype)
        return model

    @property
    def banks(self) -> tuple[SlotBank, ...]:
        """fLoRA's, then LoRA's."""
        return (self._rows,) if self.lora is None else (self._rows, self.lora.bank)

    def set_active_adapters(self, requests: set[LoRARequest], mapping: Any | None) -> None:
        """Before each step: an adapter of the batch gets a slot, a token its slot's number."""
        wanted: dict[SlotBank, dict[int, Path | None]] = {bank: {} for bank in self.banks}
        for request in requests:
            wanted[self._bank_of(request)][request.lora_int_id] = self._row_of(request)
        for bank, rows in wanted.items():
            bank.activate(rows)
        if mapping is not None:
            self._state.set_tokens(self._rows.slots_of(mapping.index_mapping))
            if self.lora is not None:
                self.lora.set_tokens(mapping.index_mapping)

    def needs_host(self, requests: Iterable[LoRARequest]) -> bool:
        """Whether a step with these adapters has pairs beyond the first, or may have: one that has
        no slot is not known yet. Such a step is not for a captured CUDA graph.
        """
        slots = self._rows.slots_of([request.lora_int_id for request in requests])
        return IDENTITY_SLOT in slots or bool(self._slab.extra_pairs[slots].any())

    def set_encoder_tokens(self, tokens: Sequence[EncoderTokens]) -> None:
        """Before the encoder runs: whose audio it hears, in the order in which it hears it."""
        slots = self._rows.slots_of([each.adapter_id for each in tokens])
        self._encoder_state.set_tokens(
            np.repeat(np.array(slots, np.int32), [each.num_tokens for each in tokens])
        )

    def add_adapter(self, request: LoRARequest) -> bool:
        """Load one adapter. Raises when its file is no good: only the caller's request fails."""
        for bank in self.banks:
            bank.remove_broken(request.lora_int_id)
        return self._bank_of(request).add(request.lora_int_id, self._row_of(request))

    def remove_adapter(self, adapter_id: int) -> bool:
        return any(bank.remove(adapter_id) for bank in self.banks)

    def remove_all_adapters(self) -> None:
        for bank in self.banks:
            bank.clear()

    def pin_adapter(self, adapter_id: int) -> bool:
        return any(bank.pin(adapter_id) for bank in self.banks)

    def list_adapters(self) -> set[int]:
        return {adapter_id for bank in self.banks for adapter_id in bank.resident}

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

    def _row_of(self, request: LoRARequest) -> Path | None:
        return None if request.lora_int_id in self._dummies else Path(request.lora_path)

    def _bank_of(self, request: LoRARequest) -> SlotBank:
        """Where an adapter is, or belongs by its row."""
        row = self._row_of(request)
        for bank in self.banks:
            if bank.has(request.lora_int_id):
                return bank
        if self.lora is None or row is None:
            return self._rows
        return self.lora.bank if is_lora(row) else self._rows

    def _wrap(self, model: torch.nn.Module, dtype: torch.dtype) -> None:
        register_add_pairs()
        kernel = choose_kernel(self._options.kernel, self._device.type)
        kinds: Counter[str] = Counter()
        bounded = cache_layers(model)
        for group, (name, layer) in enumerate(target_layers(model).items()):
            method = pick_method(layer, kernel)
            state = self._encoder_state if reads_encoder(name) else self._state
            own = method(layer.quant_method, layer, state, group, name in bounded)
            own.warm_up(dtype)
            layer.quant_method = own
            kinds[method.__name__] += 1
            if self.lora is not None:
                self.lora.wrap(layer, group, name in bounded)
        logger.info("fLoRA on %d linear layers: %s", kinds.total(), dict(kinds))
