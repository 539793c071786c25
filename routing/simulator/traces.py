"""Public traces of real requests, read from files that are not part of this project.

Azure LLM inference 2023 (CC BY 4.0, Patel et al., "Splitwise", ISCA 2024), one hour of Mooncake's
conversations (Apache-2.0, Qin et al., FAST 2025), and lengths of ShareGPT's conversations
(Apache-2.0, microsoft/sarathi-serve), which have no times: these come by a Poisson process.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from contracts.errors import InvalidRequest
from routing.simulator.arrivals import MakeTrace, Trace, poisson

FILES: Mapping[str, str] = {
    "azure-conv": "azure_llm_trace_2023/AzureLLMInferenceTrace_conv.csv",
    "azure-code": "azure_llm_trace_2023/AzureLLMInferenceTrace_code.csv",
    "mooncake": "mooncake_conversation_trace/conversation_trace_head8.jsonl",
    "sharegpt": "sharegpt_lengths/sharegpt_8k_filtered_stats_llama2_tokenizer.csv",
}
"""Name -> file below the folder of data."""

NAMES = ("poisson", *FILES)


def make_trace(name: str, folder: Path) -> MakeTrace:
    """What makes a trace of a rate and a length. Raises InvalidRequest for what is not there."""
    if name == "poisson":
        return poisson
    if name not in FILES:
        raise InvalidRequest(f"no trace '{name}'; there are: {', '.join(NAMES)}")
    path = folder / FILES[name]
    if not path.is_file():
        raise InvalidRequest(f"the trace '{name}' needs {path}: say with --data where it is")
    if name == "sharegpt":
        return lambda rate, seconds, rng: _with_lengths(poisson(rate, seconds, rng), path, rng)
    trace = read_azure(path) if path.suffix == ".csv" else read_mooncake(path)
    return lambda rate, seconds, rng: trace.scaled(rate, seconds)


def read_azure(path: Path) -> Trace:
    """TIMESTAMP, ContextTokens, GeneratedTokens."""
    rows = list(_csv_rows(path))
    stamps = [row["TIMESTAMP"].replace(" ", "T")[:26] for row in rows]
    times = np.array(stamps, "datetime64[us]").astype(np.int64) / 1e6
    prompts = np.array([int(row["ContextTokens"]) for row in rows])
    answers = np.array([int(row["GeneratedTokens"]) for row in rows])
    return Trace(times - times[0], np.maximum(1, prompts), np.maximum(1, answers))


def read_mooncake(path: Path) -> Trace:
    """One JSON object a line: timestamp in milliseconds, input_length, output_length."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    times = np.array([row["timestamp"] for row in rows]) / 1e3
    prompts = np.array([row["input_length"] for row in rows])
    answers = np.array([row["output_length"] for row in rows])
    return Trace(times - times[0], np.maximum(1, prompts), np.maximum(1, answers))


def _with_lengths(trace: Trace, path: Path, rng: np.random.Generator) -> Trace:
    rows = list(_csv_rows(path))
    drawn = rng.integers(len(rows), size=len(trace.times_s))
    prompts = np.array([int(row["num_prefill_tokens"]) for row in rows])[drawn]
    answers = np.array([int(row["num_decode_tokens"]) for row in rows])[drawn]
    return Trace(trace.times_s, np.maximum(1, prompts), np.maximum(1, answers))


def _csv_rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)
