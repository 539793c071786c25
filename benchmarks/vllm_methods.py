"""The ways to serve 32 users from one engine that are compared: base, fLoRA, vLLM's LoRA."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from vllm import SamplingParams
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.inputs import tokens_input
from vllm.lora.request import LoRARequest
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM

from flora.layout import AdapterLayout
from flora.row import encode_row
from replicas.config import ReplicaConfig
from replicas.vllm_args import engine_args, prepare_process


@dataclass(frozen=True, slots=True)
class Load:
    """One measured batch: every request has its own adapter while `num_adapters` allows."""

    num_sequences: int
    num_adapters: int
    num_prompt_tokens: int = 64
    num_output_tokens: int = 64

    def prompts(self, seed: int) -> list[list[int]]:
        """Random token ids, other ones for each seed."""
        shape = (self.num_sequences, self.num_prompt_tokens)
        found: list[list[int]] = np.random.default_rng(seed).integers(1000, 40_000, shape).tolist()
        return found


class Method:
    """A running engine and its adapters. `rank` 0 is the base model, `kind` "flora" or "lora".

    "lora" is vLLM's own way. A fLoRA engine whose config has a `lora_rank` takes both kinds.
    """

    def __init__(self, kind: str, rank: int, config: ReplicaConfig, folder: Path) -> None:
        self.name = kind if kind == "base" else f"{kind}_r{rank}"
        if kind == "flora" and config.lora_rank:
            self.name += "_beside_lora"
        self._kind = kind
        self._rank = rank
        self._config = config
        self._folder = folder
        self._adapters: list[LoRARequest] = []
        self._llm: AsyncLLM
        self._count = 0

    async def start(self, num_adapters: int, max_resident: int | None = None) -> None:
        """Start the engine and write `num_adapters` adapters where it finds them.

        LoRA has room for `max_resident` of them on the device (None: all).
        """
        prepare_process(self._config)
        self._llm = AsyncLLM.from_engine_args(self._args(max_resident or num_adapters))
        if self._kind == "flora":
            paths = write_rows(await self.layout(), num_adapters, self._folder)
        elif self._kind == "lora":
            paths = write_loras(Path(self._config.model), self._rank, num_adapters, self._folder)
        else:
            paths = []
        self._adapters = [LoRARequest(p.name, i, str(p)) for i, p in enumerate(paths, start=1)]

    async def layout(self) -> AdapterLayout:
        """The row layout of a fLoRA engine."""
        layout, *_ = await self._llm.collective_rpc("flora_layout_json")
        return AdapterLayout.from_json(layout)

    async def tokens_per_s(self, load: Load, seed: int) -> float:
        """Prompt and answer lengths are exact, sampling greedy; all requests arrive at once."""
        prompts = load.prompts(seed)
        adapters = self._adapters[: load.num_adapters]
        started_s = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for i, prompt in enumerate(prompts):
                adapter = adapters[i % len(adapters)] if adapters else None
                group.create_task(self._answer(prompt, adapter, load.num_output_tokens))
        elapsed_s = time.perf_counter() - started_s
        return load.num_sequences * load.num_output_tokens / elapsed_s

    async def token_times_s(
        self, prompt: list[int], index: int, num_tokens: int
    ) -> AsyncGenerator[tuple[float, int]]:
        """When each output came, and how many tokens it brought, with adapter `index`."""
        self._count += 1
        params = SamplingParams(
            max_tokens=num_tokens,
            ignore_eos=True,
            temperature=0.0,
            output_kind=RequestOutputKind.DELTA,
        )
        async for output in self._llm.generate(
            tokens_input(prompt),
            params,
            f"{self.name}-{self._count}",
            lora_request=self._adapters[index],
        ):
            yield time.perf_counter(), len(output.outputs[0].token_ids)

    async def ttft_s(self, prompt: list[int], index: int) -> float:
        """Time to the only token of an answer with adapter `index`."""
        started_s = time.perf_counter()
        async for came_s, _ in self.token_times_s(prompt, index, 1):
            return came_s - started_s
        raise RuntimeError("the engine gave no token")

    async def ttfts_s(self, load: Load, seed: int) -> list[float]:
        """Time to the first token of each of the load's requests, which all arrive at once."""
        indices = range(load.num_sequences)
        return await asyncio.gather(
            *(
                self.ttft_s(prompt, i % load.num_adapters)
                for i, prompt in zip(indices, load.prompts(seed), strict=True)
            )
        )

    async def load(self, index: int) -> None:
        """Bring adapter `index` to the device, and nothing else."""
        await self._llm.add_lora(self._adapters[index])

    async def activation_hold_s(self) -> list[float]:
        """How long each slot activation since the last call held the engine loop."""
        held, *_ = await self._llm.collective_rpc("flora_activation_hold_s")
        return list(held)

    async def load_round_trip_s(self) -> list[float]:
        """Time of asking an idle engine to load each adapter, the way to its worker included."""
        times = []
        for adapter in self._adapters:
            await self._llm.remove_lora(adapter.lora_int_id)
            started_s = time.perf_counter()
            await self._llm.add_lora(adapter)
            times.append(time.perf_counter() - started_s)
        return times

    def stop(self) -> None:
        self._llm.shutdown()

    async def _answer(self, prompt: list[int], adapter: LoRARequest | None, count: int) -> None:
        self._count += 1
        params = SamplingParams(
            max_tokens=count,
            ignore_eos=True,
            temperature=0.0,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        request_id = f"{self.name}-{self._count}"
        async for output in self._llm.generate(
            tokens_input(prompt), params, request_id, lora_request=adapter
        ):
            assert len(output.outputs[0].token_ids) == count

    def _args(self, num_adapters: int) -> AsyncEngineArgs:
        """The same engine settings for every method; only what concerns adapters differs."""
        args = engine_args(replace(self._config, num_slots=max(256, num_adapters)))
        if self._kind == "flora":
            return args
        args.additional_config, args.worker_extension_cls, args.enable_lora = {}, "", False
        args.max_loras, args.max_cpu_loras = 1, None
        if self._kind == "lora":
            args.enable_lora = True
            args.max_loras = args.max_cpu_loras = num_adapters
            args.max_lora_rank = self._rank
        return args


async def load_row(engine: AsyncLLM, number: int, row: Path) -> None:
    """Bring a row to its slot, and nothing else; `number` is one that no request has."""
    await engine.add_lora(LoRARequest(row.name, number, str(row)))


def write_rows(layout: AdapterLayout, count: int, folder: Path) -> list[Path]:
    """Random dense rank-1 rows, named by digest as the node cache names them."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    paths = []
    for _ in range(count):
        numbers = rng.normal(0, 0.02, layout.base_width).astype(np.float32)
        blob = encode_row(layout, [0] * len(layout.groups), numbers)
        path = folder / sha256(blob).hexdigest()
        path.write_bytes(blob)
        paths.append(path)
    return paths


def write_loras(model: Path, rank: int, count: int, folder: Path) -> list[Path]:
    """Random LoRA adapters in PEFT's form on every linear layer of a Llama-style model."""
    config = json.loads((model / "config.json").read_text())
    generator = torch.Generator().manual_seed(0)
    paths = []
    for i in range(count):
        path = folder / f"lora-r{rank}-{i}"
        path.mkdir(parents=True, exist_ok=True)
        save_file(lora_tensors(config, rank, generator), path / "adapter_model.safetensors")
        about = {
            "peft_type": "LORA",
            "r": rank,
            "lora_alpha": rank,
            "target_modules": list(MODULES),
            "bias": "none",
        }
        (path / "adapter_config.json").write_text(json.dumps(about))
        paths.append(path)
    return paths


MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def lora_tensors(
    config: dict[str, Any], rank: int, generator: torch.Generator
) -> dict[str, torch.Tensor]:
    """One adapter's tensors by PEFT's names."""
    hidden, wide = config["hidden_size"], config["intermediate_size"]
    head = config.get("head_dim") or hidden // config["num_attention_heads"]
    queries, keys = head * config["num_attention_heads"], head * config["num_key_value_heads"]
    sizes = dict(
        zip(
            MODULES,
            (
                (hidden, queries),
                (hidden, keys),
                (hidden, keys),
                (queries, hidden),
                (hidden, wide),
                (hidden, wide),
                (wide, hidden),
            ),
            strict=True,
        )
    )
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        for module, (size_in, size_out) in sizes.items():
            part = "self_attn" if module in MODULES[:4] else "mlp"
            name = f"base_model.model.model.layers.{layer}.{part}.{module}"
            for side, shape in (("A", (rank, size_in)), ("B", (size_out, rank))):
                tensor = torch.randn(shape, generator=generator) * 0.01
                tensors[f"{name}.lora_{side}.weight"] = tensor.bfloat16()
    return tensors
