"""vLLM's AsyncLLM behind our Engine protocol. Knows nothing of the store, of Ray or of HTTP."""

import asyncio
from collections.abc import Callable
from itertools import count
from pathlib import Path

from vllm.exceptions import VLLMClientError
from vllm.lora.request import LoRARequest
from vllm.outputs import STREAM_FINISHED, RequestOutput
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.engine.output_processor import RequestOutputCollector

from contracts.adapters import Digest
from contracts.errors import AdapterCorrupt, EngineFailed, InvalidRequest
from contracts.generation import GenerateRequest, TokenDelta
from contracts.replica import ReplicaInfo, SlotReport
from flora.layout import AdapterLayout
from flora.lora_row import is_lora
from replicas.config import ReplicaConfig
from replicas.engine import TokenSource
from replicas.loaded_rows import LoadedRows
from replicas.row_file import fault_of
from replicas.vllm_args import engine_args, prepare_process, require_parts
from replicas.vllm_sampling import to_deltas, to_params
from replicas.vllm_speech import max_audio_s, take_prompts_whole, to_prompt


class VllmSource:
    """One request's outputs. Its collector sets the group's event: one wake-up a step for all.

    `leave` is called with the request's id when it has finished.
    """

    def __init__(
        self,
        collector: RequestOutputCollector,
        request: GenerateRequest,
        leave: Callable[[str], None],
    ) -> None:
        self.finished = False
        self._collector = collector
        self._request_id = request.request_id
        self._leave = leave
        self._num_top = request.sampling.logprobs or 0
        self._num_prompt_top = request.sampling.prompt_logprobs or 0

    def drain(self, index: int) -> list[TokenDelta]:
        try:
            output = self._collector.get_nowait()
        except EngineDeadError as error:
            self._finish()
            raise EngineFailed("The engine stopped.") from error
        except Exception as error:
            self._finish()
            raise EngineFailed(f"The engine failed ({type(error).__name__}).") from error
        if not isinstance(output, RequestOutput):
            return []
        if output.finished:
            self._finish()
        if output is STREAM_FINISHED:
            return []
        return to_deltas(index, output, self._num_top, self._num_prompt_top)

    def _finish(self) -> None:
        self.finished = True
        self._leave(self._request_id)


class WholeSource:
    """A request that resumes as many tokens as its answer may have."""

    finished = False

    def drain(self, index: int) -> list[TokenDelta]:
        if self.finished:
            return []
        self.finished = True
        return [TokenDelta(index, finish_reason="length")]


class VllmEngine:
    """An AsyncLLM with fLoRA inside. `start` first; it takes as long as loading the model does."""

    def __init__(self, config: ReplicaConfig) -> None:
        self._config = config
        self._llm: AsyncLLM | None = None
        # Others may push a row out unseen, but no more of them than one full batch has.
        ids = count(1)
        self._rows = LoadedRows(config.num_slots - config.max_running_seqs, ids)
        self._lora_rows = LoadedRows(0, ids)
        self._layout: AdapterLayout

    async def start(self) -> ReplicaInfo:
        try:
            await asyncio.to_thread(require_parts, self._config)
            prepare_process(self._config)
            args = await asyncio.to_thread(engine_args, self._config)
            self._llm = AsyncLLM.from_engine_args(args)
            # Every device of the model gives the same.
            layout_json, *_ = await self._llm.collective_rpc("flora_layout_json")
            lora_layout_json, *_ = await self._llm.collective_rpc("flora_lora_layout_json")
        except (RuntimeError, ValueError, OSError) as error:
            raise EngineFailed(f"The engine did not start: {error}") from error
        self._layout = AdapterLayout.from_json(layout_json)
        model_config = self._llm.model_config
        if model_config.is_encoder_decoder:
            take_prompts_whole(self._llm)
        return ReplicaInfo(
            self._config.model,
            model_config.max_model_len,
            model_config.get_vocab_size(),
            self._config.num_slots,
            layout_json,
            max_audio_s(model_config),
            lora_layout_json,
        )

    async def submit(
        self,
        request: GenerateRequest,
        row: Path | None,
        wake: asyncio.Event,
        priority: int = 0,
    ) -> TokenSource:
        """See Engine. The row goes into its slot just before the request is queued, in the same
        turn of the engine loop, so a bad file is this request's error and costs the others nothing.
        """
        if 0 < request.sampling.max_tokens <= len(request.resumed_token_ids):
            wake.set()
            return WholeSource()
        lora = loading = None
        rows = self._rows_for(request, row)
        if row is not None:
            lora, loading = self._enter(request, row, rows)
        try:
            # One turn of the loop: the load is on its way to the engine before the request is.
            await asyncio.sleep(0)
            collector = await self._add(request, lora, priority)
            collector.ready = wake
            if collector.output is not None:
                wake.set()
            if loading is not None:
                await self._confirm(request, loading, rows, row)
        except BaseException:
            if loading is not None:
                loading.cancel()
            rows.leave(request.request_id)
            raise
        return VllmSource(collector, request, rows.leave)

    async def abort(self, request_id: str) -> None:
        await self.llm.abort(request_id)
        for rows in (self._rows, self._lora_rows):
            rows.leave(request_id)

    async def release(self, digest: Digest) -> bool:
        """See Engine. Sent in the turn in which it is decided, so any later load comes after it."""
        adapter_id = self._rows.release(digest) or self._lora_rows.release(digest)
        if adapter_id is None:
            return False
        try:
            return bool(await self.llm.remove_lora(adapter_id))
        except EngineDeadError as error:
            raise EngineFailed("The engine stopped.") from error

    async def slots(self) -> SlotReport:
        try:
            counts, *_ = await self.llm.collective_rpc("flora_slot_counts")
        except EngineDeadError as error:
            raise EngineFailed("The engine stopped.") from error
        config, lora = self._config, None
        if config.lora_rank:
            lora = _report(config.lora_slots, counts[1], self._lora_rows)
        return _report(config.num_slots, counts[0], self._rows, lora)

    async def check(self) -> None:
        try:
            await self.llm.check_health()
        except EngineDeadError as error:
            raise EngineFailed("The engine stopped.") from error

    async def stop(self) -> None:
        if self._llm is not None:
            self._llm.shutdown()
            self._llm = None

    @property
    def llm(self) -> AsyncLLM:
        if self._llm is None:
            raise EngineFailed("The engine is not running.")
        return self._llm

    async def _add(
        self, request: GenerateRequest, lora: LoRARequest | None, priority: int
    ) -> RequestOutputCollector:
        try:
            params = to_params(request.sampling, request.resumed_token_ids)
            prompt = to_prompt(request, self.llm.model_config)
            return await self.llm.add_request(
                request.request_id, prompt, params, lora_request=lora, priority=priority
            )
        except (ValueError, VLLMClientError) as error:
            raise InvalidRequest(str(error)) from error
        except EngineDeadError as error:
            raise EngineFailed("The engine stopped.") from error

    def _rows_for(self, request: GenerateRequest, row: Path | None) -> LoadedRows:
        """Those of the row's kind."""
        if row is None or not is_lora(row):
            return self._rows
        if not self._config.lora_rank:
            raise AdapterCorrupt(
                f"The adapter {request.adapter.name!r} is a LoRA, and this engine takes none:"
                " replica.lora_rank is 0."
            )
        return self._lora_rows

    def _enter(
        self, request: GenerateRequest, row: Path, rows: LoadedRows
    ) -> tuple[LoRARequest, "asyncio.Task[bool] | None"]:
        """The adapter as vLLM wants it, and its load, unless the row is sure to be in its slot."""
        digest = request.adapter.digest
        lora = LoRARequest(rows.name_of(digest), rows.id_of(digest), str(row))
        if rows.enter(request.request_id, digest):
            return lora, None
        return lora, asyncio.create_task(self.llm.add_lora(lora))

    async def _confirm(
        self,
        request: GenerateRequest,
        loading: "asyncio.Task[bool]",
        rows: LoadedRows,
        row: Path | None,
    ) -> None:
        digest = request.adapter.digest
        try:
            was_loaded = await loading
        except EngineDeadError as error:
            raise EngineFailed("The engine stopped.") from error
        except Exception as error:
            await self.abort(request.request_id)
            rows.fail(digest)
            fault = fault_of(row, self._layout) if row and rows is self._rows else ""
            raise AdapterCorrupt(
                f"The engine could not load the adapter {request.adapter.name!r}"
                + (f": {fault}." if fault else ".")
            ) from error
        rows.confirm(digest, was_there=not was_loaded)


def _report(
    num_slots: int, counts: tuple[int, int], rows: LoadedRows, lora: SlotReport | None = None
) -> SlotReport:
    used, evictions = counts
    return SlotReport(num_slots, used, rows.hits, rows.misses, evictions, lora)
