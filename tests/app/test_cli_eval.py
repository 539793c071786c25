import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from app.cli import app
from contracts.errors import InvalidRequest
from flora.eval.toolchains import TOOLCHAINS
from tests.flora.models import make_model_dir


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_dir(tmp_path_factory.mktemp("model"))


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["eval", *map(str, arguments)])


def figures(path: Path, result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_bits_per_byte_are_shown_and_written(model_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("some words " * 20)
    out = tmp_path / "found.json"
    options = ["--model", model_dir, "--json", out, "--seed", 3, "--max-characters", 50]
    result = invoke("bpb", tmp_path / "text.txt", *options)
    found = figures(out, result)
    bits = found["results"]["text.txt"]["bits_per_byte"]
    assert found["config"]["seed"] == 3
    assert found["config"]["model"] == model_dir.name
    assert bits["low"] <= bits["value"] <= bits["high"]
    assert bits["n"] == 5
    assert f"{bits['value']:.4f}" in result.output
    assert str(model_dir.parent) not in out.read_text()


def test_word_errors_of_a_file(tmp_path: Path) -> None:
    data = tmp_path / "pairs.jsonl"
    data.write_text('{"reference": "One two", "hypothesis": "one, two three"}\n')
    out = tmp_path / "found.json"
    found = figures(out, invoke("wer", data, "--json", out))
    assert found["results"]["pairs.jsonl"]["word_error_rate"]["value"] == 0.5
    data.write_text('{"reference": "One two"}\n')
    result = invoke("wer", data)
    assert isinstance(result.exception, InvalidRequest)
    assert 'needs "reference" and "hypothesis"' in str(result.exception)


def test_intents_of_a_tenant(model_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "clinc150_domains.json").write_text('{"travel": ["book"]}')
    splits = {"train": [], "val": [["a trip", "book"], ["a flight", "book"]]}
    (tmp_path / "clinc150_small_train_val.json").write_text(json.dumps(splits))
    out = tmp_path / "found.json"
    options = ["--data", tmp_path, "--model", model_dir, "--json", out, "--limit", 2]
    found = figures(out, invoke("intent", "travel", *options))
    assert found["results"]["travel"]["accuracy"]["n"] == 2
    assert found["config"]["labels_in_prompt"] is True


def test_programs_run_only_guarded_or_when_told(model_dir: Path, tmp_path: Path) -> None:
    row = {"name": "p", "prompt": "exit 0\n", "tests": "", "stop_tokens": ["\n"]}
    for language in TOOLCHAINS:
        path = tmp_path / f"humaneval-{language}-reworded.jsonl"
        path.write_text(json.dumps(row))
    out = tmp_path / "found.json"
    options = ["--data", tmp_path, "--model", model_dir, "--json", out, "--languages", "sh,rkt"]
    result = invoke("multipl-e", *options, "--samples", 2, "--max-tokens", 4, "--no-sandbox")
    found = figures(out, result)
    assert "NO SANDBOX" in result.output
    assert found["results"]["sh"]["verdicts"] == {"passed": 2}
    assert found["results"]["sh"]["pass@1"]["value"] == 1
    assert found["config"]["sandbox"] is False
    assert set(found["results"]) | set(found["skipped"]) == {"sh", "rkt"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["multipl-e", "--no-sandbox", "--languages", "cobol"], "no language 'cobol'"),
        (["multipl-e", "--no-sandbox", "--data", "absent"], "say with --data"),
        (["intent", "banking77", "--data", "absent"], "say with --data"),
        (["bpb", "absent.jsonl"], "absent.jsonl cannot be read"),
    ],
)
def test_what_cannot_be_judged_is_refused(arguments: list[str], message: str) -> None:
    result = invoke(*arguments)
    assert isinstance(result.exception, InvalidRequest)
    assert message in str(result.exception)


def test_a_served_adapter_is_named_and_not_read(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("words")
    options = ["--url", "http://127.0.0.1:1", "--adapter", tmp_path]
    result = invoke("bpb", tmp_path / "text.txt", *options)
    assert isinstance(result.exception, InvalidRequest)
    assert "named by --model base:adapter" in str(result.exception)
