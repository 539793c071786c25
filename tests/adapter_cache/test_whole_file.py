import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adapter_cache.whole_file import create_whole, write_whole


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_file_replaces_another_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    write_whole(path, b"one", tmp_path / "incoming")
    write_whole(path, b"two", tmp_path / "incoming")
    assert path.read_bytes() == b"two"
    assert files_below(tmp_path) == [path]


def test_of_many_creators_one_succeeds(tmp_path: Path) -> None:
    path, incoming = tmp_path / "a" / "file", tmp_path / "incoming"

    def create(number: int) -> bool:
        try:
            create_whole(path, b"%d" % number * 1000, incoming)
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        won = list(threads.map(create, range(10)))
    assert won.count(True) == 1
    assert path.read_bytes() == b"%d" % won.index(True) * 1000
    assert files_below(tmp_path) == [path]


@pytest.mark.parametrize("write", [write_whole, create_whole])
def test_the_name_comes_after_the_bytes_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: type
) -> None:
    path, incoming = tmp_path / "file", tmp_path / "incoming"

    def fail(descriptor: int) -> None:
        assert not path.exists()
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="full"):
        write(path, b"data", incoming)
    assert files_below(tmp_path) == []
