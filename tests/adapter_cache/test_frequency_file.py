from pathlib import Path

import pytest

from adapter_cache.frequency import EMPTY_SKETCH
from adapter_cache.frequency_file import open_sketch
from tests.adapter_cache.adapters import digest_of

DIGEST = digest_of(b"a blob")


def test_two_that_open_one_file_share_its_counts(tmp_path: Path) -> None:
    first, second = (open_sketch(tmp_path / "frequency") for _ in range(2))
    first.add(DIGEST)
    second.add(DIGEST)
    assert first.estimate(DIGEST) == second.estimate(DIGEST) == 8
    assert open_sketch(tmp_path / "frequency").estimate(DIGEST) == 8
    assert [path.name for path in tmp_path.iterdir()] == ["frequency"]


@pytest.mark.parametrize("damage", [b"", EMPTY_SKETCH[:-1], bytes(len(EMPTY_SKETCH))])
def test_a_damaged_file_is_replaced_under_those_who_have_it_mapped(
    tmp_path: Path, damage: bytes
) -> None:
    (tmp_path / "frequency").write_bytes(damage)
    sketch = open_sketch(tmp_path / "frequency")
    sketch.add(DIGEST)
    assert open_sketch(tmp_path / "frequency").estimate(DIGEST) == 4


def test_without_room_the_counts_are_the_process_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bytes = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        write_bytes(path, data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    sketch = open_sketch(tmp_path / "frequency")
    sketch.add(DIGEST)
    assert sketch.estimate(DIGEST) == 4
    assert list(tmp_path.iterdir()) == []
