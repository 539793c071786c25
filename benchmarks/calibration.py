"""The simulator's engine against measured ones: constants fitted to some, errors on the others.

Reads committed records alone, so that it can be repeated anywhere. All loads are of one kind: so
many sequences start at once, with 64 prompt tokens and 64 of the answer (or 32).
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.record import RESULTS
from routing.simulator.clock import Clock
from routing.simulator.engine import Engine, GapCounts
from routing.simulator.job import Job
from routing.simulator.profile import CPU, Profile

PROMPT_TOKENS = ANSWER_TOKENS = 64
COUNTED_ANSWER_TOKENS = 32
"""Of the engine benchmark's loads of 1 to 256 adapters."""
FITTED = (1, 32)
HELD_OUT = (8, 128)
STALL_STREAMS = 16


class BatchListener:
    """Notes when sequences have their first and last tokens."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.firsts_s: list[float] = []
        self.ends_s: list[float] = []

    def started(self, job: Job) -> None:
        """Nothing to note."""

    def first_token(self, job: Job) -> None:
        """A first token."""
        self.firsts_s.append(self._clock.now_s)

    def ended(self, job: Job) -> None:
        """A last one."""
        self.ends_s.append(self._clock.now_s)


def simulated_batch(
    profile: Profile, num_sequences: int, answer_tokens: int = ANSWER_TOKENS
) -> tuple[float, float, float]:
    """Tokens a second, median time to the first token, median gap; of sequences begun at once."""
    clock, gaps = Clock(), GapCounts()
    listener = BatchListener(clock)
    wide = replace(profile, max_num_seqs=256, num_slots=256, max_kv_tokens=1 << 20)
    engine = Engine(wide, clock, listener, gaps)
    for number in range(num_sequences):
        job = Job(number, 0, 0.0, 0, PROMPT_TOKENS, answer_tokens)
        clock.at(0.0, engine.add, job)
    clock.run(lambda: len(listener.ends_s) == num_sequences)
    tokens_per_s = num_sequences * answer_tokens / clock.now_s
    return tokens_per_s, float(np.median(listener.firsts_s)), gaps.percentile_s(50)


def fitted_constants(stack: Mapping[str, float]) -> NDArray[np.float64]:
    """`step_s`, `sequence_s`, `prompt_token_s`: least squares of relative errors.

    Two equations a load: its first tokens take one step with all prompts, the others 63 steps.
    """
    rows, times = [], []
    for number in FITTED:
        first_s = stack[f"engine{number}_ttft_ms_p50"] / 1e3
        all_s = number * ANSWER_TOKENS / stack[f"engine{number}_tokens_per_s"]
        rows += [
            (1, 0, number * PROMPT_TOKENS),
            (ANSWER_TOKENS - 1, (ANSWER_TOKENS - 1) * number, 0),
        ]
        times += [first_s, all_s - first_s]
    scale = 1 / np.array(times)
    matrix = np.array(rows) * scale[:, None]
    constants, *_ = np.linalg.lstsq(matrix, np.ones(len(times)), rcond=None)
    return constants.astype(np.float64)


def calibration_metrics() -> dict[str, float]:
    """Predictions for what was not fitted, as shares of what was measured: 1 is right."""
    stack, engine, stall = (record_metrics(name) for name in ("stack", "engine", "stall"))
    metrics = {}
    for number in (*FITTED, *HELD_OUT):
        tokens_per_s, first_s, _ = simulated_batch(CPU, number)
        name = f"calibration_{'fitted' if number in FITTED else 'held_out'}_{number}"
        metrics[f"{name}_tokens_share"] = tokens_per_s / stack[f"engine{number}_tokens_per_s"]
        metrics[f"{name}_ttft_share"] = first_s * 1e3 / stack[f"engine{number}_ttft_ms_p50"]
    # Another day, another speed of the machine: only growth with the batch can be compared.
    simulated = [simulated_batch(CPU, number, COUNTED_ANSWER_TOKENS)[0] for number in (32, 64)]
    measured = [
        engine[f"eager_base_{count}_adapters_tokens_per_s"]
        * engine[f"eager_flora_r1_{count}_adapters_share_of_base"]
        for count in (8, 64)  # 32 sequences of 8 adapters, 64 of 64
    ]
    growth = simulated[1] / simulated[0], measured[1] / measured[0]
    metrics["calibration_held_out_engine_growth_share"] = growth[0] / growth[1]
    _, _, gap_s = simulated_batch(CPU, STALL_STREAMS)
    metrics["calibration_held_out_stall_16_gap_share"] = gap_s * 1e3 / stall["flora_gap_p50_ms"]
    return metrics


def worst_error(metrics: Mapping[str, float]) -> float:
    """The largest relative error among the predictions that were not fitted."""
    return max(abs(value - 1) for name, value in metrics.items() if "_held_out_" in name)


def record_metrics(name: str) -> dict[str, Any]:
    """Those of a committed record."""
    record = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    metrics: dict[str, Any] = record["metrics"]
    return metrics
