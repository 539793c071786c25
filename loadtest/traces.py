"""Real days: requests as a public trace has them, at the rate that is wanted.

Azure's LLM inference traces of 2023 (Patel et al., "Splitwise", ISCA 2024) and Mooncake's
conversation trace (Qin et al., FAST 2025). Neither names adapters: Azure's requests get Zipf's,
and all requests of one of Mooncake's conversations get the same one.
"""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from heapq import merge
from pathlib import Path

import numpy as np

from loadtest.draw import Rng, adapters, clipped, existing
from loadtest.load_config import LoadConfig
from loadtest.plan import Arrival, Ask

_AZURE = Path("azure_llm_trace_2023")
_AZURE_FILES = ("AzureLLMInferenceTrace_conv.csv", "AzureLLMInferenceTrace_code.csv")
_MOONCAKE = Path("mooncake_conversation_trace") / "conversation_trace_head8.jsonl"


@dataclass(frozen=True, slots=True)
class TracedRequest:
    """A row of a trace: when, how long, and which blocks its prompt begins with."""

    at_s: float
    num_prompt_tokens: int
    num_answer_tokens: int
    blocks: tuple[int, ...] = ()


def azure_arrivals(config: LoadConfig, rng: Rng) -> list[Arrival]:
    """A piece of both services' traces together. Raises FileNotFoundError, ValueError."""
    paths = [existing(config.data / _AZURE / name) for name in _AZURE_FILES]
    rows = list(merge(*map(read_azure, paths), key=lambda row: row.at_s))
    return _arrivals(piece_of(rows, config, rng), config, rng)


def mooncake_arrivals(config: LoadConfig, rng: Rng) -> list[Arrival]:
    """A piece of the trace: prompts share what conversations share, and so do adapters.

    Raises FileNotFoundError, ValueError.
    """
    rows = piece_of(read_mooncake(existing(config.data / _MOONCAKE)), config, rng)
    found = _arrivals(rows, config, rng)
    # The first block is the same for nearly all, so the second one tells conversations apart.
    first: dict[tuple[int, ...], int] = {}
    return [
        replace(a, ask=replace(a.ask, adapter=first.setdefault(a.ask.blocks[:2], a.ask.adapter)))
        for a in found
    ]


def read_azure(path: Path) -> list[TracedRequest]:
    """One service's requests, in order of time, from its own first one on."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    # Python's dates have six digits of the seven.
    times = [datetime.fromisoformat(row["TIMESTAMP"][:26]).timestamp() for row in rows]
    return [
        TracedRequest(time - times[0], int(row["ContextTokens"]), int(row["GeneratedTokens"]))
        for time, row in zip(times, rows, strict=True)
    ]


def read_mooncake(path: Path) -> list[TracedRequest]:
    """Requests in order of time; the ids of the blocks that their prompts begin with."""
    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [
        TracedRequest(
            row["timestamp"] / 1000,
            row["input_length"],
            row["output_length"],
            tuple(row["hash_ids"]),
        )
        for row in rows
    ]


def piece_of(rows: Sequence[TracedRequest], config: LoadConfig, rng: Rng) -> list[TracedRequest]:
    """As many requests in a row as the rate asks for, their gaps scaled to fill the duration.

    Raises ValueError where the trace is too short.
    """
    count = max(round(config.rate * config.duration_s), 1)
    if count >= len(rows):
        longest_s = (len(rows) - 1) / config.rate
        raise ValueError(f"the trace has {len(rows)} requests: enough for {longest_s:.0f} s")
    first = int(rng.integers(len(rows) - count))
    began_s = rows[first].at_s
    # The request behind the piece ends its last gap.
    scale = config.duration_s / max(rows[first + count].at_s - began_s, 1e-9)
    return [replace(row, at_s=(row.at_s - began_s) * scale) for row in rows[first : first + count]]


def _arrivals(rows: Sequence[TracedRequest], config: LoadConfig, rng: Rng) -> list[Arrival]:
    prompts, answers = clipped(
        np.array([row.num_prompt_tokens for row in rows]),
        np.array([row.num_answer_tokens for row in rows]),
        config,
    )
    drawn = adapters(len(rows), config, rng).tolist()
    seeds = rng.integers(1 << 31, size=len(rows)).tolist()
    columns = zip(rows, drawn, prompts.tolist(), answers.tolist(), seeds, strict=True)
    return [
        Arrival(row.at_s, Ask(adapter, prompt, answer, seed, blocks=row.blocks))
        for row, adapter, prompt, answer, seed in columns
    ]
