"""A real vLLM batch of every kind of adapter gives what transformers gives with W' materialised."""

from pathlib import Path

import pytest

from tests.replicas.engine.exactness import assert_exact, assert_no_worse_than_base, distance
from tests.replicas.engine.models import SMOLLM2

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(400),
    # vLLM leaves its sockets' context to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.mark.parametrize("enforce_eager", [True, False], ids=["eager", "compiled"])
async def test_smollm2_float32(tmp_path: Path, enforce_eager: bool) -> None:
    assert_exact(await distance(SMOLLM2, tmp_path, 49_000, 0.05, enforce_eager=enforce_eager))


async def test_smollm2_bfloat16(tmp_path: Path) -> None:
    assert_no_worse_than_base(await distance(SMOLLM2, tmp_path, 49_000, 0.05, dtype="bfloat16"))


async def test_int8_rows_bfloat16(tmp_path: Path) -> None:
    found = await distance(SMOLLM2, tmp_path, 49_000, 0.05, dtype="bfloat16", row_dtype="int8")
    assert_no_worse_than_base(found)
