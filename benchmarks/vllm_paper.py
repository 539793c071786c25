"""Engines for the paper's experiments: weights are made up, prompts are token ids.

An engine is stepped by whoever measures it, without a loop or a process of its own in between
where vLLM allows it (CPU), so that several can live in one process and be measured in turn.
"""

import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from safetensors.torch import save_file
from vllm import SamplingParams
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.inputs import tokens_input
from vllm.lora.request import LoRARequest
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.llm_engine import LLMEngine

from benchmarks.paper_loads import Ask
from benchmarks.paper_models import PaperModel
from benchmarks.paper_plan import Scale, Setup
from flora.layout import AdapterLayout
from flora.lora_layout import LoraLayout
from flora.lora_row import encode_lora
from flora.row import encode_row
from replicas.config import ReplicaConfig
from replicas.vllm_args import engine_args, prepare_process

_NUM_FILES = 2
"""Adapters of one rank are as many slots, but not as many files."""
_IDS_A_RANK = 1 << 16


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one load came to. `ms_per_token`: mean over requests of arrival to end, a token."""

    tokens_per_s: float
    all_tokens_per_s: float
    ms_per_token: float


class PaperEngine:
    """A running engine of one setup."""

    def __init__(
        self,
        setup: Setup,
        scale: Scale,
        folder: Path,
        num_adapters: int,
        num_threads: int | None = None,
    ) -> None:
        self._setup = setup
        self._folder = folder
        self._model = scale.model(setup)
        self.num_slots = scale.num_slots(setup, num_adapters)
        base = self._model.write(folder / "model", setup.numbers)
        config = make_config(setup, scale, base, self.num_slots, num_threads)
        prepare_process(config)
        self._llm = LLMEngine.from_engine_args(make_args(setup, config))
        self._files: dict[int, list[Path]] = {}
        self._count = 0

    def run(
        self, asks: Sequence[Ask], seed: int, clock: Callable[[], float] = time.perf_counter
    ) -> Outcome:
        """Ask, and wait for all answers. Answers have exactly the tokens asked for.

        Requests that come later need a `clock` that goes on while nobody works.
        """
        rng = np.random.default_rng(seed)
        waiting = deque(sorted(asks, key=lambda ask: ask.at_s))
        running: dict[str, Ask] = {}
        paces_ms: list[float] = []
        for rank in {ask.rank for ask in asks if ask.rank}:
            if rank not in self._files:
                self._files[rank] = self._write(rank)
        started_s = clock()
        while waiting or running:
            now_s = clock() - started_s
            while waiting and waiting[0].at_s <= now_s:
                ask = waiting.popleft()
                running[self._add(ask, rng)] = ask
            if not running:
                time.sleep(waiting[0].at_s - now_s)
                continue
            for output in self._llm.step():
                if output.finished:
                    ask = running.pop(output.request_id)
                    took_s = clock() - started_s - ask.at_s
                    paces_ms.append(1e3 * took_s / ask.num_answer_tokens)
        elapsed_s = clock() - started_s
        answered = sum(ask.num_answer_tokens for ask in asks)
        read = sum(ask.num_prompt_tokens for ask in asks)
        return Outcome(answered / elapsed_s, (answered + read) / elapsed_s, fmean(paces_ms))

    def warm_up(self, asks: Sequence[Ask], seed: int) -> None:
        """The same requests at once and with short answers: adapters come to their slots."""
        short = [replace(a, at_s=0.0, num_answer_tokens=min(2, a.num_answer_tokens)) for a in asks]
        self.run(short, seed)

    def close(self) -> None:
        """Stop the engine and free what it holds."""
        self._llm.engine_core.shutdown()

    def _add(self, ask: Ask, rng: np.random.Generator) -> str:
        self._count += 1
        params = SamplingParams(
            max_tokens=ask.num_answer_tokens,
            ignore_eos=True,
            temperature=0.0,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        ids = rng.integers(1, self._model.vocabulary, ask.num_prompt_tokens).tolist()
        name = str(self._count)
        self._llm.add_request(
            name, tokens_input(ids), params, lora_request=self._adapter(ask) if ask.rank else None
        )
        return name

    def _adapter(self, ask: Ask) -> LoRARequest:
        number = ask.adapter % self.num_slots
        path = self._files[ask.rank][number % _NUM_FILES]
        number += ask.rank * _IDS_A_RANK
        return LoRARequest(f"{number}", number, str(path))

    def _write(self, rank: int) -> list[Path]:
        folder = self._folder / f"rank-{rank}"
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(rank)
        if self._setup.method == "lora":
            return [write_lora(self._model, rank, folder / str(i), rng) for i in range(_NUM_FILES)]
        text, *_ = self._llm.collective_rpc("flora_layout_json")
        layout = AdapterLayout.from_json(text)
        make = flora_row if self._setup.method == "flora" else lora_row
        return [write_row(make(layout, rank, rng), folder) for _ in range(_NUM_FILES)]


def make_config(
    setup: Setup, scale: Scale, model: Path, num_slots: int, num_threads: int | None
) -> ReplicaConfig:
    """What all methods have in common."""
    return ReplicaConfig(
        str(model),
        dtype="bfloat16",
        num_slots=num_slots,
        # The baseline's rank is its own, and does not switch CUDA graphs off as further pairs do.
        max_rank=max(1, setup.rank) if setup.method == "flora" else 1,
        max_num_seqs=setup.num_seqs,
        reserved_seqs=0,
        max_model_len_tokens=scale.positions,
        max_num_batched_tokens=max(scale.num_batched_tokens, setup.num_seqs),
        kv_cache_bytes=scale.kv_cache_bytes,
        num_threads=num_threads,
        quantization="fp8" if setup.numbers == "fp8" else None,
    )


def make_args(setup: Setup, config: ReplicaConfig) -> AsyncEngineArgs:
    """The same engine settings for every method; only what concerns adapters differs."""
    args = engine_args(config)
    args.load_format, args.skip_tokenizer_init = "dummy", True
    args.enable_prefix_caching = False
    if setup.method == "flora":
        return args
    if setup.method == "bmm":
        args.additional_config["flora"]["max_rank"] = setup.rank
        args.worker_cls, args.worker_extension_cls = "benchmarks.vllm_bmm.BmmWorker", ""
        return args
    args.additional_config, args.worker_extension_cls, args.enable_lora = {}, "", False
    args.max_loras, args.max_cpu_loras = 1, None
    if setup.method == "lora":
        args.enable_lora, args.max_lora_rank = True, setup.rank
        args.max_loras = args.max_cpu_loras = config.num_slots
    return args


def flora_row(layout: AdapterLayout, rank: int, rng: np.random.Generator) -> bytes:
    """A random fLoRA adapter of `rank` with tied inputs on every layer."""
    pairs = [rank - 1] * len(layout.groups)
    numbers = rng.standard_normal(layout.extra_offsets(pairs)[-1], np.float32) * np.float32(0.02)
    return encode_row(layout, pairs, numbers)


def lora_row(layout: AdapterLayout, rank: int, rng: np.random.Generator) -> bytes:
    """A random LoRA of `rank` on every layer."""
    lora = LoraLayout(replace(layout, max_rank=rank))
    draw = rng.standard_normal
    scale = np.float32(0.01)
    factors = [
        (draw((rank, n_in), np.float32) * scale, draw((n_out, rank), np.float32) * scale)
        for n_in, n_out in lora.sizes
    ]
    return encode_lora(lora, factors)


def write_row(blob: bytes, folder: Path) -> Path:
    """A row's file, named by digest as the node cache names it."""
    path = folder / sha256(blob).hexdigest()
    path.write_bytes(blob)
    return path


def write_lora(model: PaperModel, rank: int, folder: Path, rng: np.random.Generator) -> Path:
    """A random LoRA of `rank` on every layer, in PEFT's form."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for layer in range(model.num_layers):
        for module, (n_in, n_out) in model.modules().items():
            name = f"base_model.model.{model.block_prefix}{layer}.{module}"
            for side, shape in (("A", (rank, n_in)), ("B", (n_out, rank))):
                numbers = torch.from_numpy(rng.standard_normal(shape, np.float32) * 0.01)
                tensors[f"{name}.lora_{side}.weight"] = numbers.bfloat16()
    save_file(tensors, folder / "adapter_model.safetensors")
    about = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": rank,
        "target_modules": sorted({name.rpartition(".")[2] for name in model.modules()}),
        "bias": "none",
    }
    (folder / "adapter_config.json").write_text(json.dumps(about))
    return folder
