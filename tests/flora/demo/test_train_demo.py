"""The demo recipes on a tiny model: every one runs and writes an adapter."""

from pathlib import Path

from rich.console import Console

from flora.adapter_config import AdapterLimits
from flora.adapter_files import read_adapter
from flora.codec import compile_adapter
from flora.demo.build_data import STYLES
from flora.demo.train_demo import DEMO_ADAPTERS, demo_config, train_demo
from tests.flora.models import llama_layout, make_model_dir


def test_every_demo_adapter_trains_and_compiles(tmp_path: Path) -> None:
    model_dir = make_model_dir(tmp_path / "model")
    reports = train_demo(model_dir, tmp_path / "out", Console(quiet=True), max_steps=2)
    assert tuple(report.out_dir.name for report in reports) == DEMO_ADAPTERS == tuple(STYLES)
    for report in reports:
        weights = (report.out_dir / "adapter_model.safetensors").read_bytes()
        config = (report.out_dir / "adapter_config.json").read_bytes()
        files = read_adapter(weights, config, AdapterLimits())
        layout = llama_layout("bfloat16", fingerprint=files.config.base_fingerprint)
        assert compile_adapter(layout, files, AdapterLimits()).num_modules == 14


def test_recipes_are_short(tmp_path: Path) -> None:
    for name in DEMO_ADAPTERS:
        config = demo_config(name, tmp_path, tmp_path)
        assert config.recipe.max_steps * config.recipe.batch_size <= 800
        assert config.data[0].exists()
