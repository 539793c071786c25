"""The committed pictures are those of the committed records."""

import json
from pathlib import Path

import pytest

from benchmarks.plots import PICTURES, main, render
from benchmarks.record import RESULTS


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_that_of_its_record(name: str) -> None:
    drawn = render(name, json.loads((RESULTS / f"{name}.json").read_text()))
    assert drawn == (RESULTS / f"{name}.svg").read_bytes(), "run `python -m benchmarks.plots`"


def test_only_records_that_are_there_are_drawn(tmp_path: Path) -> None:
    (tmp_path / "popularity.json").write_text((RESULTS / "popularity.json").read_text())
    main(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["popularity.json", "popularity.svg"]
