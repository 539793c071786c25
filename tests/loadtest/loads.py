"""Small loads and outcomes for tests."""

from pathlib import Path
from typing import Any

import numpy as np

from loadtest.load_config import LoadConfig
from loadtest.outcome import Outcome
from loadtest.plan import Ask

CONV, CODE = (f"AzureLLMInferenceTrace_{name}.csv" for name in ("conv", "code"))


def rng(seed: int = 7) -> np.random.Generator:
    return np.random.default_rng(seed)


def make_load(**changes: Any) -> LoadConfig:
    return LoadConfig(**{"duration_s": 40.0, "num_adapters": 20, **changes})


def make_ask(**changes: Any) -> Ask:
    fields: dict[str, Any] = {"adapter": 0, "num_prompt_tokens": 8, "num_answer_tokens": 4}
    return Ask(**{**fields, "seed": 1, **changes})


def make_outcome(at_s: float = 1.0, **changes: Any) -> Outcome:
    fields: dict[str, Any] = {
        "group": "all",
        "adapter": 0,
        "lag_s": 0.001,
        "total_s": 1.1,
        "ttft_s": 0.1,
        "num_tokens": 11,
        "gaps_s": (0.1,) * 10,
    }
    return Outcome(at_s, **{**fields, **changes})


def write_traces(data: Path) -> Path:
    """Small traces and lengths where the real ones would lie."""
    azure = data / "azure_llm_trace_2023"
    azure.mkdir(parents=True)
    for name, first_s, step_s in ((CONV, 0.0, 1.0), (CODE, 3.0, 2.5)):
        rows = [f"2023-11-16 18:15:{first_s + i * step_s:010.7f},800,40" for i in range(20)]
        text = "\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows])
        (azure / name).write_text(text)
    mooncake = data / "mooncake_conversation_trace"
    mooncake.mkdir()
    lines = [
        f'{{"timestamp": {i * 1000}, "input_length": 6000, "output_length": 400,'
        f' "hash_ids": [0, {i % 3 + 1}, {i + 10}]}}'
        for i in range(60)
    ]
    (mooncake / "conversation_trace_head8.jsonl").write_text("\n".join(lines))
    lengths = data / "sharegpt_lengths"
    lengths.mkdir()
    head = "num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio"
    rows = ["290,905,1195,0.32", "10,20,30,0.5", "1500,900,2400,1.6", "80,40,120,2"]
    name = "sharegpt_8k_filtered_stats_llama2_tokenizer.csv"
    (lengths / name).write_text("\n".join([head, *rows]))
    return data
