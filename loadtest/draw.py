"""Random parts of a load: times, adapters, lengths. All of them are decided by an `rng`."""

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loadtest.load_config import LoadConfig
from loadtest.plan import ALL, BASE, Ask

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Rng = np.random.Generator

_SHAREGPT = Path("sharegpt_lengths") / "sharegpt_8k_filtered_stats_llama2_tokenizer.csv"
_SHAREGPT_TOTAL = (50, 2000)
"""vLLM's paper leaves shorter and longer conversations out."""


def poisson_times(rate: float, begin_s: float, end_s: float, rng: Rng) -> Floats:
    """Times of a Poisson process of `rate` events a second, in order."""
    count = rng.poisson(rate * max(end_s - begin_s, 0.0))
    return np.sort(rng.uniform(begin_s, end_s, count))


def zipf_adapters(count: int, num_adapters: int, skew: float, rng: Rng) -> Ints:
    """The n-th most popular adapter has a share in proportion to n ** -skew; 0 is no skew."""
    shares = np.arange(1, num_adapters + 1) ** -skew
    return rng.choice(num_adapters, count, p=shares / shares.sum())


def adapters(count: int, config: LoadConfig, rng: Rng) -> Ints:
    """Zipf's adapters, and the base model for its share, or for all where there are none."""
    if not config.num_adapters:
        return np.full(count, BASE, np.int64)
    drawn = zipf_adapters(count, config.num_adapters, config.skew, rng)
    return np.where(rng.random(count) < config.base_share, BASE, drawn)


def lengths(count: int, config: LoadConfig, rng: Rng) -> tuple[Ints, Ints]:
    """Prompt and answer tokens of `count` requests."""
    if config.lengths == "sharegpt":
        rows = read_sharegpt(config.data)
        drawn = rows[rng.integers(len(rows), size=count)]
        return clipped(drawn[:, 0], drawn[:, 1], config)
    return _around(config.prompt_tokens, count, rng), _around(config.answer_tokens, count, rng)


def clipped(prompts: Ints, answers: Ints, config: LoadConfig) -> tuple[Ints, Ints]:
    """Real lengths divided by `shrink`, one token at least and the longest at most."""
    return (
        np.clip(prompts / config.shrink, 1, config.max_prompt_tokens).astype(np.int64),
        np.clip(answers / config.shrink, 1, config.max_answer_tokens).astype(np.int64),
    )


def asks(count: int, config: LoadConfig, rng: Rng, group: str = ALL) -> list[Ask]:
    """`count` requests of one group, each with a prompt of its own."""
    return [
        Ask(adapter, prompt, answer, seed, group)
        for adapter, prompt, answer, seed in zip(
            adapters(count, config, rng).tolist(),
            *(column.tolist() for column in lengths(count, config, rng)),
            rng.integers(1 << 31, size=count).tolist(),
            strict=True,
        )
    ]


def read_sharegpt(data: Path) -> Ints:
    """Prompt and answer tokens of conversations, (conversations, 2). Raises FileNotFoundError."""
    least, most = _SHAREGPT_TOTAL
    with existing(data / _SHAREGPT).open(encoding="utf-8", newline="") as lines:
        rows = [
            (int(row["num_prefill_tokens"]), int(row["num_decode_tokens"]))
            for row in csv.DictReader(lines)
        ]
    return np.array([row for row in rows if least <= sum(row) <= most], np.int64)


def existing(path: Path) -> Path:
    """A data file. Raises FileNotFoundError that says what to do where it is not there."""
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is not there: say with --data where the data sets lie, or take a shape"
            " and lengths that need none"
        )
    return path


def _around(mean: int, count: int, rng: Rng) -> Ints:
    return rng.integers(max(mean // 2, 1), mean * 3 // 2 + 1, count)
