from pathlib import Path

import pytest

from adapter_cache.node_pins import NodePins, unlink_unpinned
from tests.adapter_cache.adapters import digest_of

DIGEST = digest_of(b"a blob")


def test_a_pinned_file_stays_until_as_many_unpins(tmp_path: Path) -> None:
    path, pins = tmp_path / "blob", NodePins()
    path.write_bytes(b"a blob")
    assert pins.pin(DIGEST, path) == pins.pin(DIGEST, path) is not None
    assert pins.digests() == {DIGEST}
    pins.unpin(DIGEST)
    assert not unlink_unpinned(path)
    pins.unpin(DIGEST)
    assert pins.digests() == set()
    assert unlink_unpinned(path)
    assert not path.exists()


def test_each_of_two_holders_keeps_the_file(tmp_path: Path) -> None:
    path, first, second = tmp_path / "blob", NodePins(), NodePins()
    path.write_bytes(b"a blob")
    for pins in (first, second):
        assert pins.pin(DIGEST, path) is not None
    first.unpin(DIGEST)
    assert not unlink_unpinned(path)
    second.unpin(DIGEST)
    assert unlink_unpinned(path)


def test_what_is_not_there_is_neither_pinned_nor_removed(tmp_path: Path) -> None:
    pins = NodePins()
    assert pins.pin(DIGEST, tmp_path / "blob") is None
    assert not unlink_unpinned(tmp_path / "blob")
    with pytest.raises(KeyError):
        pins.unpin(DIGEST)
