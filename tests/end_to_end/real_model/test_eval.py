"""`flora eval` judges a served adapter as it judges the folder that was published."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.cli import app
from tests.end_to_end.real_model.demo import BASE, DEMO, MODEL

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.ray,
    pytest.mark.redis,
    pytest.mark.timeout(400),
]

RECORDS: list[dict[str, Any]] = [
    {"text": "The capital of France is Paris. It lies on the Seine."},
    {"prompt": "To make tea, ", "completion": "boil fresh water and wait for three minutes."},
    {
        "messages": [
            {"role": "user", "content": "How do I make tea?"},
            {"role": "assistant", "content": "Arrr, matey! Boil fresh brine, pour it."},
        ]
    },
]


def judge(folder: Path, *options: object) -> dict[str, float]:
    path, out = folder / "data.jsonl", folder / "found.json"
    path.write_text("\n".join(map(json.dumps, RECORDS)))
    arguments = ["eval", "bpb", path, "--json", out, *options]
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(out.read_text())["results"]["data.jsonl"]
    return {name: found[name]["value"] for name in ("bits_per_byte", "nats_per_token")} | {
        name: found[name] for name in ("num_tokens", "num_bytes")
    }


@pytest.mark.parametrize("adapter", ["", "pirate"])
def test_bits_per_byte_are_the_same_served_and_offline(
    url: str, tmp_path: Path, adapter: str
) -> None:
    served = judge(tmp_path, "--url", url, "--model", f"{BASE}:{adapter}".strip(":"))
    folder = ["--adapter", DEMO / adapter] if adapter else []
    offline = judge(tmp_path, "--model", MODEL, *folder)
    # The server computes in bfloat16.
    assert served == pytest.approx(offline, rel=0.02)
