"""vLLM's AsyncLLM behind our Engine protocol. Knows nothing of the store, of Ray or of HTTP."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from vllm.exceptions import VLLMClientError
from vllm.inputs import tokens_input
from vllm.lora.request import LoRARequest
from vllm.outputs import STREAM_FINISHED, RequestOutput
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.engine.output_processor import RequestOutputCollector

from contracts.adapters import Digest
from contracts.errors import AdapterCorrupt, EngineFailed, InvalidRequest
from contracts.generation import GenerateRequest, TokenDelta
from contracts.replica import ReplicaInfo, SlotReport
from replicas.config import ReplicaConfig
from replicas.loaded_rows import LoadedRows
from replicas.vllm_args import engine_args, prepare_process
from replicas.vllm_sampling import to_deltas, to_params


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


class VllmEngine:
    """An AsyncLLM with fLoRA inside. `start` first; it takes as long as loading the model does."""

    def __init__(self, config: ReplicaConfig) -> None:
        self._config = config
        self._llm: AsyncLLM | None = None
        # Others may push a row out unseen, but no more of them than one full batch has.
        self._rows = LoadedRows(config.num_slots - config.max_running_seqs)

    async def start(self) -> ReplicaInfo:
        try:
            prepare_process(self._config)
            args = await asyncio.to_thread(engine_args, self._config)
            self._llm = AsyncLLM.from_engine_args(args)
            (layout_json,) = await self._llm.collective_rpc("flora_layout_json")
        except (RuntimeError, ValueError, OSError) as error:
            raise EngineFailed(f"The engine did not start: {error}") from error
        model_config = self._llm.model_config
        return ReplicaInfo(
            self._config.model,
            model_config.max_model_len,
            model_config.get_vocab_size(),
            self._config.num_slots,
            layout_json,
        )

    async def submit(
        self,
        request: GenerateRequest,
        row: Path | None,
        wake: asyncio.Event,
        priority: int = 0,
    ) -> VllmSource:
        """See Engine. The row goes into its slot just before the request is queued, in the same
        turn of the engine loop, so a bad file is this request's error and costs the others nothing.
        """
        lora = loading = None
        if row is not None:
            lora, loading = self._enter(request, row)
        try:
            # One turn of the loop: the load is on its way to the engine before the request is.
            await asyncio.sleep(0)
            collector = await self._add(request, lora, priority)
            collector.ready = wake
            if collector.output is not None:
                wake.set()
            if loading is not None:
                await self._confirm(request, loading)
        except BaseException:
            if loading is not None:
                loading.cancel()
            self._rows.leave(request.request_id)
            raise
        return VllmSource(collector, request, self._rows.leave)

    async def abort(self, request_id: str) -> None:
        await self.llm.abort(request_id)
        self._rows.leave(request_id)

    async def release(self, digest: Digest) -> bool:
        """See Engine. Sent in the turn in which it is decided, so any later load comes after it."""
        adapter_id = self._rows.release(digest)
        if adapter_id is None:
            return False
        try:
            return bool(await self.llm.remove_lora(adapter_id))
        except EngineDeadError as error:
            raise EngineFailed("The engine stopped.") from error

    async def slots(self) -> SlotReport:
        try:
            ((used, evictions),) = await self.llm.collective_rpc("flora_slot_counts")
        except EngineDeadError as error:
            raise EngineFailed("The engine stopped.") from error
        num_slots, rows = self._config.num_slots, self._rows
        return SlotReport(num_slots, used, rows.hits, rows.misses, evictions)

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
            params = to_params(request.sampling)
            prompt = tokens_input(list(request.prompt_token_ids))
            return await self.llm.add_request(
                request.request_id, prompt, params, lora_request=lora, priority=priority
            )
        except (ValueError, VLLMClientError) as error:
            raise InvalidRequest(str(error)) from error
        except EngineDeadError as error:
            raise EngineFailed("The engine stopped.") from error

    def _enter(
        self, request: GenerateRequest, row: Path
    ) -> tuple[LoRARequest, "asyncio.Task[bool] | None"]:
        """The adapter as vLLM wants it, and its load, unless the row is sure to be in its slot."""
        rows, digest = self._rows, request.adapter.digest
        lora = LoRARequest(rows.name_of(digest), rows.id_of(digest), str(row))
        if rows.enter(request.request_id, digest):
            return lora, None
        return lora, asyncio.create_task(self.llm.add_lora(lora))

    async def _confirm(self, request: GenerateRequest, loading: "asyncio.Task[bool]") -> None:
        digest = request.adapter.digest
        try:
            await loading
        except EngineDeadError as error:
            raise EngineFailed("The engine stopped.") from error
        except Exception as error:
            await self.abort(request.request_id)
            self._rows.fail(digest)
            raise AdapterCorrupt(
                f"The engine could not load the adapter {request.adapter.name!r}."
            ) from error
        self._rows.confirm(digest)
