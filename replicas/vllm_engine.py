"""vLLM's AsyncLLM behind our Engine protocol. Knows nothing of the store, of Ray or of HTTP."""

import asyncio
import os
from collections import Counter, OrderedDict
from itertools import count
from pathlib import Path
from typing import Any

from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.exceptions import VLLMClientError
from vllm.inputs import tokens_input
from vllm.lora.request import LoRARequest
from vllm.outputs import STREAM_FINISHED, RequestOutput
from vllm.platforms import current_platform
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.engine.output_processor import RequestOutputCollector

from contracts.adapters import Digest
from contracts.errors import AdapterCorrupt, EngineFailed, InvalidRequest
from contracts.generation import GenerateRequest, TokenDelta
from contracts.replica import ReplicaInfo
from flora.base_model import fingerprint
from replicas.config import ReplicaConfig
from replicas.vllm_sampling import to_deltas, to_params

_MAX_KNOWN_IDS = 1 << 16
# vLLM's own default is nearly all memory, and it does not start when other programs use some.
_CPU_KV_CACHE_BYTES = 1 << 30


class VllmSource:
    """One request's outputs. Its collector sets the group's event: one wake-up a step for all."""

    def __init__(self, collector: RequestOutputCollector, request: GenerateRequest) -> None:
        self.finished = False
        self._collector = collector
        self._num_top = request.sampling.logprobs or 0
        self._num_prompt_top = request.sampling.prompt_logprobs or 0

    def drain(self, index: int) -> list[TokenDelta]:
        try:
            output = self._collector.get_nowait()
        except EngineDeadError as error:
            self.finished = True
            raise EngineFailed("The engine stopped.") from error
        except Exception as error:
            self.finished = True
            raise EngineFailed(f"The engine failed ({type(error).__name__}).") from error
        if not isinstance(output, RequestOutput):
            return []
        self.finished = output.finished
        if output is STREAM_FINISHED:
            return []
        return to_deltas(index, output, self._num_top, self._num_prompt_top)


class VllmEngine:
    """An AsyncLLM with fLoRA inside. `start` first; it takes as long as loading the model does."""

    def __init__(self, config: ReplicaConfig) -> None:
        self._config = config
        self._llm: AsyncLLM | None = None
        self._ids: OrderedDict[Digest, int] = OrderedDict()
        self._loaded: OrderedDict[int, None] = OrderedDict()  # most recently used last
        self._next_id = count(1)
        self._failures: Counter[Digest] = Counter()

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
        self, request: GenerateRequest, row: Path | None, wake: asyncio.Event
    ) -> VllmSource:
        """See Engine. The row goes into its slot just before the request is queued, in the same
        turn of the engine loop, so a bad file is this request's error and costs the others nothing.
        """
        lora = None if row is None else self._lora_request(request, row)
        loading = None if lora is None else self._load(lora)
        # One turn of the loop: the load is on its way to the engine before the request is.
        await asyncio.sleep(0)
        try:
            collector = await self._add(request, lora)
            collector.ready = wake
            if collector.output is not None:
                wake.set()
            if loading is not None:
                await self._confirm(request, loading)
        except BaseException:
            if loading is not None:
                loading.cancel()
            raise
        return VllmSource(collector, request)

    async def abort(self, request_id: str) -> None:
        await self.llm.abort(request_id)

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
        self, request: GenerateRequest, lora: LoRARequest | None
    ) -> RequestOutputCollector:
        try:
            params = to_params(request.sampling)
            prompt = tokens_input(list(request.prompt_token_ids))
            return await self.llm.add_request(request.request_id, prompt, params, lora_request=lora)
        except (ValueError, VLLMClientError) as error:
            raise InvalidRequest(str(error)) from error
        except EngineDeadError as error:
            raise EngineFailed("The engine stopped.") from error

    def _load(self, lora: LoRARequest) -> "asyncio.Task[bool] | None":
        """Have the row loaded, unless it is sure to be in its slot still.

        It is, while fewer other adapters came after it than slots are left beside a full batch.
        """
        adapter_id = lora.lora_int_id
        if adapter_id in self._loaded:
            self._loaded.move_to_end(adapter_id)
            return None
        return asyncio.create_task(self.llm.add_lora(lora))

    async def _confirm(self, request: GenerateRequest, loading: "asyncio.Task[bool]") -> None:
        digest = request.adapter.digest
        try:
            await loading
        except EngineDeadError as error:
            raise EngineFailed("The engine stopped.") from error
        except Exception as error:
            await self.abort(request.request_id)
            self._failures[digest] += 1
            raise AdapterCorrupt(
                f"The engine could not load the adapter {request.adapter.name!r}."
            ) from error
        self._loaded[self._id_of(digest)] = None
        while len(self._loaded) > self._config.num_slots - self._config.max_num_seqs:
            self._loaded.popitem(last=False)

    def _lora_request(self, request: GenerateRequest, row: Path) -> LoRARequest:
        """vLLM keys prefix-cache blocks by name and path: both follow from the digest alone.

        But for a digest that failed here before: blocks of the failed try must not be found again.
        """
        digest = request.adapter.digest
        failures = self._failures[digest]
        name = f"{digest}!{failures}" if failures else digest
        return LoRARequest(name, self._id_of(digest), str(row))

    def _id_of(self, digest: Digest) -> int:
        """An engine-wide number for the bytes; a forgotten digest gets a new one, never an old."""
        if digest not in self._ids:
            self._ids[digest] = next(self._next_id)
            if len(self._ids) > _MAX_KNOWN_IDS:
                self._ids.popitem(last=False)
        self._ids.move_to_end(digest)
        return self._ids[digest]


def prepare_process(config: ReplicaConfig) -> None:
    """Set up this process's environment for a CPU engine, which inherits it; nothing on a GPU.

    The model runs inside the engine core's process: apart from it, the core would spin on a
    processor of its own while it waits for each step, and take a third of a small machine's speed.
    """
    if current_platform.is_cpu():
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        num_threads = config.num_threads or len(os.sched_getaffinity(0))
        os.environ["OMP_NUM_THREADS"] = str(num_threads)


def engine_args(config: ReplicaConfig) -> AsyncEngineArgs:
    """vLLM's arguments for a replica. Reads the model folder for its fingerprint and dtype."""
    options = {
        "num_slots": config.num_slots,
        "max_rank": config.max_rank,
        "base_fingerprint": base_fingerprint(config.model),
        "row_dtype": config.row_dtype,
        "kernel": config.kernel,
    }
    is_cpu = current_platform.is_cpu()
    is_eager = is_cpu if config.enforce_eager is None else config.enforce_eager
    optional: dict[str, Any] = {
        "max_num_batched_tokens": config.max_num_batched_tokens,
        "kv_cache_memory_bytes": config.kv_cache_bytes or (_CPU_KV_CACHE_BYTES if is_cpu else None),
        "quantization": config.quantization,
    }
    if not is_cpu:
        optional["gpu_memory_utilization"] = config.gpu_memory_share
        if config.max_rank > 1:
            # Further pairs are counted on the host, which a captured graph would not see.
            optional["compilation_config"] = {"cudagraph_mode": "NONE"}
    return AsyncEngineArgs(
        model=config.model,
        dtype=config.dtype,
        max_model_len=config.max_model_len_tokens,
        max_num_seqs=config.max_num_seqs,
        enforce_eager=is_eager,
        seed=config.seed,
        enable_lora=True,
        max_loras=config.num_slots,
        max_cpu_loras=config.num_slots,
        max_lora_rank=1,
        additional_config={"flora": options},
        worker_extension_cls="replicas.vllm_manager.FloraWorkerExtension",
        distributed_executor_backend="uni" if is_cpu else None,
        enable_log_requests=False,
        disable_log_stats=True,
        **{name: value for name, value in optional.items() if value is not None},
    )


def base_fingerprint(model: str) -> str:
    """The base's fingerprint: of its folder, or of a Hugging Face name's cached snapshot."""
    folder = Path(model)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(model, allow_patterns=["*.json", "*.safetensors"]))
    return fingerprint(folder)
