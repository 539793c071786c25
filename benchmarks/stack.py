"""Question: how much of the engine's speed reaches 32 streaming HTTP clients with 32 adapters?

One run: `flora serve` as a user starts it, and a bare engine of the same settings in this process,
take turns. The clients run on the same cores as the server. Ceiling: the bare engine, 1.0.
"""

import argparse
import asyncio
import os
import signal
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from rich.console import Console

from app.config import Settings
from benchmarks.record import summarise, write_record
from benchmarks.served import served
from benchmarks.vllm_methods import Load, Method
from flora.adapter_config import AdapterConfig
from flora.adapter_files import AdapterFiles, tensor_name, write_adapter
from flora.layout import AdapterLayout
from replicas.config import ReplicaConfig

SEED = 0
LOAD = Load(32, 32)
Samples = dict[str, list[float]]
console = Console(stderr=True)


def write_adapters(layout: AdapterLayout, count: int) -> list[tuple[bytes, bytes]]:
    """Random rank-1 adapters with tied inputs as an upload brings them: weights and config."""
    rng = np.random.default_rng(SEED)
    uploads = []
    for _ in range(count):
        tensors = {}
        for group in layout.groups:
            shared = rng.normal(0, 0.02, (1, group.in_features)).astype(np.float32)
            for member in group.members:
                tensors[tensor_name(member.name, "B")] = shared
                alpha = rng.normal(0, 0.02, (1, member.out_features)).astype(np.float32)
                tensors[tensor_name(member.name, "A")] = alpha
        files = AdapterFiles(AdapterConfig(1, "deviation", True), tensors)
        uploads.append(write_adapter(files, "bfloat16"))
    return uploads


async def publish(session: aiohttp.ClientSession, uploads: list[tuple[bytes, bytes]]) -> list[str]:
    """Upload the adapters; their names."""
    models = []
    for i, (weights, config) in enumerate(uploads):
        form = aiohttp.FormData()
        form.add_field("weights", weights, filename="adapter_model.safetensors")
        form.add_field("config", config, filename="adapter_config.json")
        async with session.put(f"/v1/adapters/bench-{i}", data=form) as response:
            answer = await response.json()
            assert response.status in (200, 201), answer
            models.append(f"bench-{i}")
    return models


async def stream_one(session: aiohttp.ClientSession, body: dict[str, Any]) -> tuple[int, float]:
    """Tokens of one streamed completion as its usage says, and seconds to the first event."""
    started_s = time.perf_counter()
    ttft_s, tail = 0.0, b""
    async with session.post("/v1/completions", json=body) as response:
        assert response.status == 200, await response.text()
        async for chunk in response.content.iter_any():
            ttft_s = ttft_s or time.perf_counter() - started_s
            tail = (tail + chunk)[-600:]
    count = int(tail.rsplit(b'"completion_tokens":', 1)[1].split(b",")[0].split(b"}")[0])
    return count, ttft_s


async def http_tokens_per_s(
    session: aiohttp.ClientSession, base: str, models: list[str], seed: int, samples: Samples
) -> float:
    """One batch of streams at once; also samples the time to the first token."""
    rng = np.random.default_rng(seed)
    prompts = rng.integers(1000, 40_000, (LOAD.num_sequences, LOAD.num_prompt_tokens)).tolist()
    bodies = [
        {
            "model": f"{base}:{model}",
            "prompt": prompt,
            "max_tokens": LOAD.num_output_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        for model, prompt in zip(models, prompts, strict=True)
    ]
    started_s = time.perf_counter()
    answers = await asyncio.gather(*(stream_one(session, body) for body in bodies))
    elapsed_s = time.perf_counter() - started_s
    counts = [count for count, _ in answers]
    assert counts == [LOAD.num_output_tokens] * LOAD.num_sequences, counts
    samples["http32_ttft_ms_p50"].append(float(np.median([t for _, t in answers])) * 1e3)
    return sum(counts) / elapsed_s


async def read_counters(session: aiohttp.ClientSession) -> dict[str, float]:
    """The door's counters by name."""
    async with session.get("/metrics") as response:
        lines = (await response.text()).splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


async def measure(args: argparse.Namespace, url: str, folder: Path, samples: Samples) -> None:
    """Bare engine and server in turn, round by round."""
    config = Settings().replica
    bare = Method("flora", 1, bare_config(args.model, config), folder)
    timeout = aiohttp.ClientTimeout(total=300)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, timeout=timeout, connector=connector) as session:
        try:
            with console.status("starting the bare engine"):
                await bare.start(LOAD.num_adapters)
            uploads = write_adapters(await bare.layout(), LOAD.num_adapters)
            models = await publish(session, uploads)
            base = args.model.name.lower()
            await bare.tokens_per_s(LOAD, SEED)
            await http_tokens_per_s(session, base, models, SEED, defaultdict(list))
            before = await read_counters(session)
            for number in range(1, args.rounds + 1):
                engine = await bare.tokens_per_s(LOAD, SEED + number)
                http = await http_tokens_per_s(session, base, models, SEED + number, samples)
                console.print(f"engine {engine:.0f} tokens/s, HTTP {http:.0f}")
                samples["engine32_tokens_per_s"].append(engine)
                samples["http32_tokens_per_s"].append(http)
                samples["http32_share_of_engine"].append(http / engine)
            after = await read_counters(session)
        finally:
            bare.stop()
    tokens = after["flora_generated_tokens_total"] - before["flora_generated_tokens_total"]
    messages = after["flora_step_messages_total"] - before["flora_step_messages_total"]
    samples["step_messages_per_token"].append(messages / tokens)


def bare_config(model: Path, served_config: ReplicaConfig) -> ReplicaConfig:
    """The served engine's settings, as far as they bear on speed."""
    return ReplicaConfig(
        str(model),
        dtype="bfloat16",
        num_slots=served_config.num_slots,
        max_num_seqs=served_config.max_num_seqs,
        max_rank=served_config.max_rank,
        enforce_eager=served_config.enforce_eager,
    )


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="flora bench stack", description=__doc__)
    parser.add_argument("--json", type=Path, help="where the record goes")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--model", type=Path, default=Path("models/smollm2-135m-instruct"))
    return parser.parse_args()


def main() -> None:
    """Measure and record."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    # Ended from outside, too, the engines have to go: they are processes of their own.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    args = parse()
    samples: Samples = defaultdict(list)
    shared = Path("/dev/shm")
    with (
        tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder,
        served(args.model, Path(folder), console) as url,
    ):
        asyncio.run(measure(args, url, Path(folder) / "rows", samples))
    metrics, spread = summarise(samples)
    path = write_record(
        args.json,
        name="stack",
        question="How much of the engine's speed reaches 32 streaming HTTP clients?",
        config={"load": str(LOAD), "adapters": "32 different, rank 1, tied"},
        seed=SEED,
        warmup=1,
        repeats=args.rounds,
        metrics=metrics,
        spread=spread,
        ceiling="1.0 of the bare engine; the clients share the server's cores",
        verdict=f"{metrics['http32_share_of_engine']:.3f} of the engine (target 0.85), "
        f"{metrics['step_messages_per_token']:.3f} messages a token",
    )
    console.print(metrics)
    console.print(f"record: {path}")


if __name__ == "__main__":
    main()
