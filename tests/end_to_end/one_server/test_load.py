"""Load generators against a whole server: this project's, over both wires, and vLLM's own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.peers import named_vllm
from loadtest.exit_code import EXIT_SLO
from tests.app.parts import make_tokenizer
from tests.end_to_end.echo_server import BASE, EchoServer

pytestmark = [pytest.mark.ray, pytest.mark.redis, pytest.mark.slow]

ROOT = Path(__file__).parents[3]


def run_load(
    folder: Path, url: str, shape: str, *words: str
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    command = [sys.executable, "-m", "loadtest", shape, "--url", url, "--report", str(folder)]
    options = ["--duration", "2", "--answer-tokens", "8", "--prompt-tokens", "16"]
    done = subprocess.run(
        [*command, *options, *words], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    record = folder / f"{shape}.json"
    return done, json.loads(record.read_text()) if record.exists() else {}


def test_every_request_of_an_open_load_is_answered_over_http(
    server: EchoServer, tmp_path: Path
) -> None:
    for name in ("load-0", "load-1"):
        server.publish(name, 1).raise_for_status()
    done, record = run_load(
        tmp_path,
        server.url,
        "poisson-15",
        *("--adapters", f"{BASE}:load-0,{BASE}:load-1", "--base-share", "0.3"),
        *("--slo", "ttft_p95_s=5,failed_share=0"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = record["metrics"]
    assert metrics["requests"] > 15
    assert (metrics["failed_share"], metrics["unsent_requests"]) == (0, 0)
    # A step of the engine takes 20 ms, and every step's token is an event.
    assert 0.015 < metrics["gap_p50_s"] < 0.1
    assert 0 < metrics["ttft_p50_s"] < metrics["total_p50_s"]
    adapters = record["config"]["adapters"]
    assert set(adapters) == {BASE, f"{BASE}:load-0", f"{BASE}:load-1"}
    assert sum(codes["ok"] for codes in adapters.values()) == metrics["requests"]
    assert "TTFT" in done.stderr + done.stdout
    assert (tmp_path / "poisson-15.html").read_text().count("<svg") == 2


def test_users_that_wait_over_grpc_and_an_slo_that_is_missed(
    port_and_server: tuple[int, EchoServer], tmp_path: Path
) -> None:
    port, server = port_and_server
    done, record = run_load(
        tmp_path,
        server.url,
        "steady",
        *("--protocol", "grpc", "--grpc-address", f"127.0.0.1:{port}", "--users", "4"),
        *("--model", BASE, "--base-share", "1", "--slo", "ttft_p50_s=0.0001"),
    )
    assert done.returncode == EXIT_SLO, done.stdout + done.stderr
    assert record["metrics"]["requests"] > 8
    assert record["metrics"]["failed_share"] == 0
    assert 0.015 < record["metrics"]["gap_p50_s"] < 0.1
    assert record["config"]["slos"] == {"ttft_p50_s <= 0.0001": False}


def test_vllms_own_benchmark_works_as_it_comes(server: EchoServer, tmp_path: Path) -> None:
    tokenizer = tmp_path / "tokenizer"
    make_tokenizer().save_pretrained(tokenizer)
    paths = [str(named_vllm(tmp_path / "named")), str(ROOT)]
    command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "bench", "serve"]
    command += ["--backend", "openai", "--base-url", server.url, "--model", BASE]
    command += ["--tokenizer", str(tokenizer), "--dataset-name", "random", "--num-prompts", "8"]
    command += ["--random-input-len", "16", "--random-output-len", "8", "--ignore-eos"]
    command += ["--save-result", "--result-dir", str(tmp_path), "--result-filename", "r.json"]
    done = subprocess.run(
        command,
        # Without plugins: what is measured with is not to load what is measured.
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "VLLM_PLUGINS": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    result = json.loads((tmp_path / "r.json").read_text())
    assert (result["completed"], result["total_output_tokens"]) == (8, 64)
    assert result["mean_ttft_ms"] > 0
