"""A layout from a config is the one that an engine reports for the model."""

from pathlib import Path

import pytest

from benchmarks.llama_layout import llama_layout, shape_layout
from flora.base_model import fingerprint
from tests.flora import models


def test_it_is_the_engines(tmp_path: Path) -> None:
    folder = models.make_model_dir(tmp_path)
    found = llama_layout(folder, "int8", max_rank=2)
    assert found == models.llama_layout("int8", 2, fingerprint(folder))


@pytest.mark.parametrize(
    ("shape", "num_bytes"), [("smollm2-135m", 2 * 253_440), ("llama-3-8b", 4_456_448)]
)
def test_shapes_are_as_large_as_their_models(shape: str, num_bytes: int) -> None:
    layout = shape_layout(shape, "bfloat16")
    assert layout.base_width * layout.itemsize == num_bytes
