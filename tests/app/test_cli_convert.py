import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import app
from tests.flora.convert.loras import random_lora, representable_lora
from tests.flora.models import make_model_dir


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_dir(tmp_path_factory.mktemp("model"))


def convert(model_dir: Path, lora: Path, out: Path, *options: str) -> str:
    small = ["--model", str(model_dir), "--num-prompts", "12", "--json", str(out / "kept.json")]
    out.mkdir(exist_ok=True)
    result = CliRunner().invoke(app, ["convert", str(lora), str(out), *small, *options])
    assert result.exit_code == 0, result.output
    return result.output


def test_a_lora_becomes_an_adapter_and_a_figure(model_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    output = convert(model_dir, representable_lora(tmp_path / "lora"), out, "--steps", "0")
    kept = json.loads((out / "kept.json").read_text())
    assert kept["share"] > 0.99
    assert kept["config"]["seed"] == 0
    assert f"{kept['share']:.3f}" in output
    assert "warning" not in output
    assert json.loads((out / "adapter_config.json").read_text())["peft_type"] == "FLORA"


def test_a_poor_result_is_said_plainly(model_dir: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("\n".join(json.dumps({"prompt": f"number {i}"}) for i in range(12)))
    lora = random_lora(tmp_path / "lora", rank=16, scale=0.3)
    output = convert(model_dir, lora, tmp_path / "out", "--steps", "1", "--prompts", str(prompts))
    kept = json.loads((tmp_path / "out/kept.json").read_text())
    assert kept["share"] < 0.5
    assert "of the LoRA's effect is kept. Try --rank 2" in output
