"""A checkpoint is gone on from by the run that made it and by no other."""

from pathlib import Path

import pytest

from contracts.errors import InvalidRequest
from flora.run_folder import RunFolder

ABOUT = {"rank": "1", "data": "abc"}


def test_what_is_resumed_is_the_same_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "checkpoints", ABOUT)
    with pytest.raises(InvalidRequest, match="no checkpoint"):
        folder.resume()
    folder.begin()
    with pytest.raises(InvalidRequest, match="no checkpoint"):
        folder.resume()
    (folder.path / "checkpoint-7").mkdir()
    folder.resume()
    with pytest.raises(InvalidRequest, match="another data"):
        RunFolder(folder.path, ABOUT | {"data": "abd"}).resume()
    (folder.path / "run.json").write_text("{")
    with pytest.raises(InvalidRequest, match="cannot be read"):
        folder.resume()
    folder.begin()
    assert [path.name for path in folder.path.iterdir()] == ["run.json"]
    folder.remove()
    assert not folder.path.exists()
