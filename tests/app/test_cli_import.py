"""`flora import`, as one types it."""

from pathlib import Path

import pytest
from peft import IA3Config
from typer.testing import CliRunner

from app import cli
from contracts.errors import InvalidAdapter, InvalidRequest
from flora.adapter_files import read_adapter
from tests.flora.adapters import LIMITS
from tests.flora.importers.sources import trained
from tests.flora.models import make_model_dir


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_dir(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def ia3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ia3")
    trained("llama", IA3Config(target_modules=["k_proj"], feedforward_modules=[]), folder)
    return folder


def run(*words: str | Path) -> str:
    result = CliRunner().invoke(cli.app, ["import", *map(str, words)])
    if result.exception is not None:
        raise result.exception
    return result.output


def test_import_writes_a_folder_to_publish(base: Path, ia3: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "IA3 of 2 modules as fLoRA of rank 1" in run(ia3, out, "--model", base)
    weights = (out / "adapter_model.safetensors").read_bytes()
    files = read_adapter(weights, (out / "adapter_config.json").read_bytes(), LIMITS)
    assert files.config.base_model_name_or_path == "tiny"
    assert len(files.tensors) == 2


def test_bad_words_are_named(base: Path, ia3: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="not 'int8'"):
        run(ia3, tmp_path, "--model", base, "--dtype", "int8")
    with pytest.raises(InvalidRequest, match="no base model in"):
        run(ia3, tmp_path, "--model", tmp_path)
    with pytest.raises(InvalidAdapter, match="cannot be read"):
        run(tmp_path / "nothing", tmp_path, "--model", base)
