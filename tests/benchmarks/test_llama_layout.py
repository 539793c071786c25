"""A layout from a config is the one that an engine reports for the model."""

from pathlib import Path

from benchmarks.llama_layout import llama_layout
from flora.base_model import fingerprint
from tests.flora import models


def test_it_is_the_engines(tmp_path: Path) -> None:
    folder = models.make_model_dir(tmp_path)
    found = llama_layout(folder, "int8", max_rank=2)
    assert found == models.llama_layout("int8", 2, fingerprint(folder))
