"""The paper's requests: ShareGPT's lengths, at once or by a Poisson process. Knows no engine."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

LENGTHS_FILE = "sharegpt_8k_filtered_stats_llama2_tokenizer.csv"
_LEAST_TOKENS, _MOST_TOKENS = 50, 2000
_SYNTHETIC_MEDIANS = (800.0, 450.0)
_SYNTHETIC_SPREADS = (1.3, 0.9)

Lengths = list[tuple[int, int]]
"""Prompt and answer of each request, in tokens."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, `at_s` seconds after the start. Adapter `adapter` of those of rank `rank`; rank
    0 asks the base model.
    """

    at_s: float
    num_prompt_tokens: int
    num_answer_tokens: int
    rank: int
    adapter: int


def sharegpt_lengths(folder: Path, num: int, divisor: int, rng: np.random.Generator) -> Lengths:
    """`num` conversations of 50 to 2,000 tokens, as the paper has them, each length divided.

    Without the file they are drawn from log-normal laws that give about the medians of the file.
    """
    path = folder / LENGTHS_FILE
    whole = _read(path) if path.exists() else _made_up(4 * num, rng)
    kept = [pair for pair in whole if _LEAST_TOKENS <= sum(pair) <= _MOST_TOKENS]
    chosen = rng.choice(len(kept), num, replace=num > len(kept))
    return [(max(1, kept[i][0] // divisor), max(1, kept[i][1] // divisor)) for i in chosen]


def is_measured(folder: Path) -> bool:
    """Whether the lengths are ShareGPT's, not the made-up ones."""
    return (folder / LENGTHS_FILE).exists()


def at_once(lengths: Lengths, ranks: Sequence[int], num_adapters: int) -> list[Ask]:
    """All requests at the start: request i has adapter i, counted modulo `num_adapters`.

    Ranks go round: an adapter has the same one whenever it comes, if `ranks` divide `num_adapters`.
    """
    return [
        Ask(0.0, prompt, answer, ranks[i % len(ranks)], i % num_adapters)
        for i, (prompt, answer) in enumerate(lengths)
    ]


def poisson(
    lengths: Lengths, rate_per_s: float, rank: int, num_adapters: int, rng: np.random.Generator
) -> list[Ask]:
    """Requests that come by a Poisson process."""
    times = np.cumsum(rng.exponential(1 / rate_per_s, len(lengths))).tolist()
    return [
        Ask(at_s, prompt, answer, rank, i % num_adapters)
        for i, (at_s, (prompt, answer)) in enumerate(zip(times, lengths, strict=True))
    ]


def _read(path: Path) -> Lengths:
    with path.open(encoding="utf-8", newline="") as file:
        return [
            (int(row["num_prefill_tokens"]), int(row["num_decode_tokens"]))
            for row in csv.DictReader(file)
        ]


def _made_up(num: int, rng: np.random.Generator) -> Lengths:
    found: Lengths = []
    while len(found) < num:
        pair = rng.lognormal(np.log(_SYNTHETIC_MEDIANS), _SYNTHETIC_SPREADS).astype(int)
        if _LEAST_TOKENS <= pair.sum() <= _MOST_TOKENS and pair.min() > 0:
            found.append((int(pair[0]), int(pair[1])))
    return found
