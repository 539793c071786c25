"""`flora train` as a user types it: one adapter, many, published, interrupted and resumed."""

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from app import cli
from app.api_client import ApiClient
from app.cli_train import EXIT_INTERRUPTED, split_names
from flora.adapter_config import AdapterLimits
from flora.adapter_files import read_adapter
from flora.base_model import fingerprint
from flora.stacked_trainer import StackedTrainer
from tests.app.serving import serving_in_a_thread
from tests.flora.models import llama_layout, make_model_dir

SHORT = ("--steps", "2", "--batch-size", "2", "--warmup-steps", "0")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_dir(tmp_path_factory.mktemp("model"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "tenants"
    folder.mkdir()
    for name in ("ann", "bob"):
        lines = [json.dumps({"prompt": f"{i}", "completion": name}) for i in range(6)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    return folder


def flora(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Exit code of `flora train WORDS`."""
    monkeypatch.setattr(sys, "argv", ["flora", "train", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def test_one_file_becomes_the_folder(
    model: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "mine"
    words = ("--rank", "2", "--targets", "q_proj, down_proj", "--bf16", "--save-dtype", "float32")
    assert flora(monkeypatch, model, data / "ann.jsonl", "--out", out, *SHORT, *words) == 0
    weights = (out / "adapter_model.safetensors").read_bytes()
    config = (out / "adapter_config.json").read_bytes()
    files = read_adapter(weights, config, AdapterLimits())
    assert (files.config.rank, files.config.target_modules) == (2, ("down_proj", "q_proj"))
    told = capsys.readouterr().out
    assert "mine: step 2 of 2, loss" in told
    assert "held-out loss" in told


def test_a_folder_is_published_adapter_by_adapter(
    model: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    layout = llama_layout("float32", fingerprint=fingerprint(model))
    with serving_in_a_thread(layout) as url:
        at = ("--out", tmp_path / "out", *SHORT, "--publish", "--url", url)
        assert flora(monkeypatch, model, data, *at) == 0
        told = capsys.readouterr().out
        with ApiClient(url) as api:
            published = {entry["name"]: entry["digest"] for entry in api.adapters()}
        assert list(published) == ["ann", "bob"]
        assert all(f"tiny:{name}@1  rank 1  {digest}" in told for name, digest in published.items())
        assert len(set(published.values())) == 2
        (data / "ann.jsonl").rename(data / "no name.jsonl")
        assert flora(monkeypatch, model, data, *at) == cli.EXIT_CALLER
        assert "'no name' cannot be published" in capsys.readouterr().err


def test_what_a_server_refuses_is_still_there(
    model: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with serving_in_a_thread() as url:  # of another model
        at = ("--out", tmp_path / "out", *SHORT, "--publish", "--url", url)
        assert flora(monkeypatch, model, data, *at) == cli.EXIT_CALLER
    assert "base model" in capsys.readouterr().err
    assert (tmp_path / "out/bob/adapter_config.json").exists()


def test_nothing_is_trained_for_a_server_that_is_not_there(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = ("--out", tmp_path / "out", "--publish", "--url", "http://127.0.0.1:1")
    assert flora(monkeypatch, model, data, *at) == cli.EXIT_SERVICE
    assert not (tmp_path / "out").exists()


def test_ctrl_c_leaves_a_checkpoint(
    model: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = (model, data, "--out", tmp_path / "out", *SHORT)
    step: Any = StackedTrainer.training_step
    with monkeypatch.context() as patch:

        def interrupted(*arguments: Any, **options: Any) -> Any:
            signal.raise_signal(signal.SIGINT)
            return step(*arguments, **options)

        patch.setattr(StackedTrainer, "training_step", interrupted)
        assert flora(monkeypatch, *words) == EXIT_INTERRUPTED
    assert "stopped after step 1; the same command with --resume" in capsys.readouterr().err
    assert flora(monkeypatch, *words, "--resume") == 0
    assert (tmp_path / "out/ann/adapter_model.safetensors").exists()
    assert flora(monkeypatch, *words, "--resume") == cli.EXIT_CALLER
    assert "no checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--steps", "0"), "max_steps"),
        (("--patience", "2"), "eval_steps"),
        (("--targets", "no_such"), "no_such"),
    ],
)
def test_what_cannot_be_is_said_in_words(
    model: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, str],
    told: str,
) -> None:
    out = tmp_path / "out"
    assert flora(monkeypatch, model, data, "--out", out, *words) == cli.EXIT_CALLER
    assert told in capsys.readouterr().err


def test_without_the_trainers_package_the_message_says_what_to_do(
    model: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    assert flora(monkeypatch, model, data, "--out", tmp_path / "out") == cli.EXIT_CALLER
    assert "flora-serve[train]" in capsys.readouterr().err


def test_names_in_a_list() -> None:
    assert split_names("q_proj, k_proj,") == ("q_proj", "k_proj")
    assert split_names("") == ()
