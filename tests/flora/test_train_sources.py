"""Names of adapters from paths, and datasets by a package that may not be there."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from contracts.errors import InvalidRequest
from flora.train_data import read_records
from flora.train_sources import find_sources, is_one, read_dataset

ROWS = [{"text": "a", "messages": None}, {"text": "b", "messages": None}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("bob.jsonl", "ann.jsonl", "readme.md"):
        (tmp_path / name).write_text('{"text": "a"}\n{"text": "b"}\n')
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/dataset_info.json").write_text("{}")
    (tmp_path / "dan.parquet").write_bytes(b"PAR1")
    return tmp_path


def fake_datasets(loaded: Any) -> Any:
    """What `datasets` would give for any path."""
    calls: list[tuple[Any, ...]] = []

    def load_from_disk(path: str) -> Any:
        calls.append((path,))
        return loaded

    def load_dataset(kind: str, data_files: str, split: str) -> Any:
        calls.append((kind, data_files, split))
        return loaded

    return SimpleNamespace(load_from_disk=load_from_disk, load_dataset=load_dataset, calls=calls)


def test_a_folder_is_an_adapter_for_each_file(folder: Path) -> None:
    found = find_sources([folder])
    assert list(found) == ["ann", "bob", "cat", "dan"]
    assert found["cat"] == folder / "cat"
    assert list(find_sources([folder / "bob.jsonl", folder / "readme.md"])) == ["bob", "readme"]
    assert not is_one([folder])
    assert not is_one([folder / "bob.jsonl"] * 2)
    assert all(is_one([path]) for path in found.values())


def test_paths_that_cannot_be_used_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="does not exist"):
        find_sources([folder / "eve.jsonl"])
    with pytest.raises(InvalidRequest, match="both be 'bob'"):
        find_sources([folder, folder / "bob.jsonl"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidRequest, match="holds no"):
        find_sources([tmp_path / "empty"])


def test_without_the_package_the_message_says_what_to_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InvalidRequest, match="pip install datasets"):
        read_records(folder / "cat")


@pytest.mark.parametrize("loaded", [ROWS, {"train": ROWS, "test": []}])
def test_datasets_are_records_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch, loaded: Any
) -> None:
    datasets = fake_datasets(loaded)
    monkeypatch.setitem(sys.modules, "datasets", datasets)
    for path in (folder / "cat", folder / "dan.parquet"):
        assert read_records(path) == [{"text": "a"}, {"text": "b"}]
    assert datasets.calls == [
        (str(folder / "cat"),),
        ("parquet", str(folder / "dan.parquet"), "train"),
    ]


def test_datasets_that_cannot_be_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", fake_datasets({"test": ROWS}))
    with pytest.raises(InvalidRequest, match="no split 'train', but test"):
        read_dataset(folder / "cat")
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace())
    with pytest.raises(InvalidRequest, match="cannot be read"):
        read_dataset(folder / "cat")
    monkeypatch.setitem(sys.modules, "datasets", fake_datasets([{"text": None}] * 2))
    with pytest.raises(InvalidRequest, match=r"cat\[0\]: needs"):
        read_records(folder / "cat")
