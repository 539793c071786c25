"""What rounding a row changes is measured against float32 rows of the same adapter."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.llama_layout import llama_layout
from benchmarks.row_changes import DTYPES, RANDOM_KINDS, RowChanges, random_files
from benchmarks.rows import sizes, summary
from flora.adapter_files import AdapterFiles
from tests.flora.models import make_model_dir


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    records = [{"prompt": f"{i} is", "completion": f" number {i}"} for i in range(4)]
    path.write_text("\n".join(map(json.dumps, records)))
    return path


@pytest.mark.parametrize("kind", RANDOM_KINDS)
def test_a_shorter_format_changes_more(tmp_path: Path, data: Path, kind: str) -> None:
    folder = make_model_dir(tmp_path / "model")
    layout = llama_layout(folder, "bfloat16", max_rank=4)
    rows = RowChanges(folder, layout)
    examples = rows.examples(data, 3)
    changes = rows.changes(random_files(layout, kind, 0.05, seed=0), examples)
    num_answer_tokens = sum(sum(example.is_target) for example in examples)
    assert list(changes) == list(DTYPES)
    for change in changes.values():
        assert change.apart.shape == change.best_differs.shape == (num_answer_tokens,)
    assert 0 < changes["bfloat16"].apart.mean() < changes["int8"].apart.mean() < 0.1
    assert dict(summary("int8", [changes["int8"]]))["int8_logprob_change_mean"] == pytest.approx(
        float(changes["int8"].apart.mean())
    )


def test_numbers_that_a_format_holds_change_nothing(tmp_path: Path, data: Path) -> None:
    folder = make_model_dir(tmp_path / "model")
    layout = llama_layout(folder, "bfloat16", max_rank=1)
    rows = RowChanges(folder, layout)
    files = random_files(layout, "tied", 0.05, seed=0)
    short = {
        name: torch.from_numpy(tensor).bfloat16().float().numpy()
        for name, tensor in files.tensors.items()
    }
    changes = rows.changes(AdapterFiles(files.config, short), rows.examples(data, 2))
    assert not changes["bfloat16"].apart.any()
    assert not changes["bfloat16"].best_differs.any()


def test_int8_is_half_the_bytes_and_its_scales(tmp_path: Path) -> None:
    found = sizes(llama_layout(make_model_dir(tmp_path), "bfloat16"))
    assert found["int8_bytes"] / found["bfloat16_bytes"] == found["int8_bytes_share"]
    assert 0.5 < found["int8_bytes_share"] < 1
