"""Requests as they arrive: when, for which adapter, how long. Every load is decided by its `rng`.

Adapters are numbers, 0 the most popular. Lengths are in tokens, and small: for small models.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MEAN_PROMPT = 64
MEAN_ANSWER = 32
HOT_SHARE = 0.6
_TRACES = ("AzureLLMInferenceTrace_conv.csv", "AzureLLMInferenceTrace_code.csv")
_PROMPT_PART, _MAX_PROMPT = 8, 256
_ANSWER_PART, _MAX_ANSWER = 4, 64
_LEAST = 4


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request, `at_s` seconds after the start."""

    at_s: float
    adapter: int
    num_prompt_tokens: int = MEAN_PROMPT
    num_answer_tokens: int = MEAN_ANSWER

    @property
    def num_tokens(self) -> int:
        """What it costs."""
        return self.num_prompt_tokens + self.num_answer_tokens


def zipf_adapters(num: int, num_adapters: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Of `num` requests, the n-th most popular adapter has a share in proportion to 1/n."""
    shares = 1 / np.arange(1, num_adapters + 1)
    return rng.choice(num_adapters, num, p=shares / shares.sum())


def zipf_arrivals(
    seconds: float, tokens_per_s: float, num_adapters: int, rng: np.random.Generator
) -> list[Arrival]:
    """Poisson arrivals; prompts and answers are half to one and a half times the mean."""
    num = rng.poisson(seconds * tokens_per_s / (MEAN_PROMPT + MEAN_ANSWER))
    return [
        Arrival(at_s, adapter, prompt, answer)
        for at_s, adapter, prompt, answer in zip(
            np.sort(rng.uniform(0, seconds, num)).tolist(),
            zipf_adapters(num, num_adapters, rng).tolist(),
            rng.integers(MEAN_PROMPT // 2, MEAN_PROMPT * 3 // 2 + 1, num).tolist(),
            rng.integers(MEAN_ANSWER // 2, MEAN_ANSWER * 3 // 2 + 1, num).tolist(),
            strict=True,
        )
    ]


def azure_arrivals(
    folder: Path,
    seconds: float,
    tokens_per_s: float,
    num_adapters: int,
    rng: np.random.Generator,
) -> list[Arrival]:
    """A piece of the Azure LLM traces of 2023, both services together, with Zipf's adapters.

    Prompts are an eighth and answers a quarter of the real ones, within bounds; time is stretched
    until the piece has as many tokens a second as wanted. Raises FileNotFoundError.
    """
    rows = sorted(chain(*(_read(folder / name) for name in _TRACES)))
    costs = np.array([prompt + answer for _, prompt, answer in rows])
    wanted = seconds * tokens_per_s
    last = int(np.searchsorted(np.cumsum(costs[::-1]), wanted))
    if last >= len(rows):
        raise ValueError(f"the traces have {costs.sum()} tokens, not {wanted:.0f}")
    first = int(rng.integers(len(rows) - last))
    end = first + int(np.searchsorted(np.cumsum(costs[first:]), wanted)) + 1
    piece = rows[first:end]
    began_s, ended_s = piece[0][0], piece[-1][0]
    scale = seconds / max(ended_s - began_s, 1e-9)
    adapters = zipf_adapters(len(piece), num_adapters, rng).tolist()
    return [
        Arrival((at_s - began_s) * scale, adapter, prompt, answer)
        for (at_s, prompt, answer), adapter in zip(piece, adapters, strict=True)
    ]


def adapters_without_end(
    num_adapters: int, hot_share: float, rng: np.random.Generator
) -> Iterator[int]:
    """Adapter 0 for `hot_share` of all requests; the others share the rest alike."""
    while True:
        if rng.random() < hot_share:
            yield 0
        else:
            yield int(rng.integers(num_adapters))


def _read(path: Path) -> list[tuple[float, int, int]]:
    """Seconds since the service's first request, prompt and answer, clipped."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    # Python's dates have six digits of the seven.
    times = [datetime.fromisoformat(row["TIMESTAMP"][:26]).timestamp() for row in rows]
    return [
        (
            time - times[0],
            min(max(int(row["ContextTokens"]) // _PROMPT_PART, _LEAST), _MAX_PROMPT),
            min(max(int(row["GeneratedTokens"]) // _ANSWER_PART, _LEAST), _MAX_ANSWER),
        )
        for time, row in zip(times, rows, strict=True)
    ]
