"""As test_exact, for other architectures, other kernels and a quantised base."""

from pathlib import Path

import pytest

from tests.replicas.engine.exactness import assert_exact, assert_no_worse_than_base, distance
from tests.replicas.engine.models import make_int4, make_tiny

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(400),
    # vLLM leaves its sockets' context to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_bigcode"])
async def test_architectures_float32(tmp_path: Path, kind: str) -> None:
    model = make_tiny(kind, tmp_path / "model")
    assert_exact(await distance(model, tmp_path / "cache", 258, 0.3))


async def test_int8_rows_float32(tmp_path: Path) -> None:
    """The oracle's W' is of the stored values: what the engine adds to them is no error at all."""
    model = make_tiny("llama", tmp_path / "model")
    assert_exact(await distance(model, tmp_path / "cache", 258, 0.3, row_dtype="int8"))


async def test_plain_tensor_code_float32(tmp_path: Path) -> None:
    model = make_tiny("gpt2", tmp_path / "model")
    assert_exact(await distance(model, tmp_path / "cache", 258, 0.3, kernel="plain"))


async def test_a_quantised_base(tmp_path: Path) -> None:
    model, widened = make_int4(tmp_path)
    found = await distance(model, tmp_path / "cache", 258, 0.3, widened, dtype="bfloat16")
    assert_no_worse_than_base(found)
