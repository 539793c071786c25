import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adapter_cache.arrival import Arrival
from adapter_cache.frequency import EMPTY_SKETCH
from adapter_cache.node_cache import NodeCache, NodeUsage
from contracts.adapters import Digest
from contracts.errors import AdapterCorrupt, Overloaded
from tests.adapter_cache.adapters import digest_of, make_blob


def make_clock() -> Callable[[], int]:
    return itertools.count(1).__next__


def make_cache(directory: Path, max_bytes: int) -> NodeCache:
    return NodeCache(directory, max_bytes, make_clock())


def put(cache: NodeCache, *blobs: bytes) -> None:
    for blob in blobs:
        cache.put(digest_of(blob), blob)


def use(cache: NodeCache, blob: bytes) -> None:
    assert cache.pin(digest_of(blob))
    cache.unpin(digest_of(blob))


def digests(cache: NodeCache) -> list[Digest]:
    return [resident.digest for resident in cache.residents()]


def test_a_blob_is_a_file_named_by_its_digest(tmp_path: Path) -> None:
    cache, blob = make_cache(tmp_path / "node", 1_000), make_blob(1)
    path = cache.put(digest_of(blob), blob)
    assert path == tmp_path / "node" / digest_of(blob) == cache.get(digest_of(blob))
    assert path.read_bytes() == blob
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert cache.get(digest_of(b"absent")) is None
    assert cache.pin(digest_of(b"absent")) is None
    assert repr(cache) == "<NodeCache 1 blobs, 100/1000 bytes, 0 pinned>"


def test_of_few_blobs_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    blobs = [make_blob(seed, 100) for seed in range(4)]
    cache = make_cache(tmp_path, 300)
    put(cache, *blobs[:3])
    assert cache.get(digest_of(blobs[0]))
    put(cache, blobs[3])
    assert digests(cache) == [digest_of(blobs[seed]) for seed in (2, 0, 3)]


def test_a_blob_in_use_outlives_blobs_that_came_later_and_a_restart(tmp_path: Path) -> None:
    clock, popular = make_clock(), make_blob(0, 100)
    for first in range(1, 100, 20):
        cache = NodeCache(tmp_path, 2_000, clock)
        put(cache, popular)
        use(cache, popular)
        put(cache, *(make_blob(seed, 100) for seed in range(first, first + 20)))
    assert digests(cache)[0] == digest_of(popular)
    cache.check_integrity(read_blobs=True)


def test_uses_are_counted_while_the_blob_is_away(tmp_path: Path) -> None:
    cache, popular = make_cache(tmp_path, 2_000), make_blob(0, 100)
    put(cache, popular)
    use(cache, popular)
    assert cache.drop(digest_of(popular))
    put(cache, popular, *(make_blob(seed, 100) for seed in range(1, 25)))
    assert digest_of(popular) in digests(cache)


@pytest.mark.parametrize("damage", [b"", b"short", bytes(len(EMPTY_SKETCH))])
def test_a_damaged_frequency_file_is_started_anew(tmp_path: Path, damage: bytes) -> None:
    first = make_cache(tmp_path, 2_000)
    replacement = tmp_path / "replacement"
    replacement.write_bytes(damage)
    replacement.replace(tmp_path / ".frequency")
    put(make_cache(tmp_path, 2_000), make_blob(1))
    assert (tmp_path / ".frequency").read_bytes() == EMPTY_SKETCH
    use(first, make_blob(1))
    first.check_integrity(read_blobs=True)


def test_order_and_budget_outlive_a_restart(tmp_path: Path) -> None:
    clock = make_clock()
    blobs = [make_blob(seed, 100) for seed in range(4)]
    cache = NodeCache(tmp_path, 400, clock)
    put(cache, *blobs)
    cache.get(digest_of(blobs[0]))
    (tmp_path / ".incoming").write_bytes(b"half a blob of a writer that died")
    (tmp_path / ".ledger").write_text("12")
    warm = NodeCache(tmp_path, 250, clock)
    warm.check_integrity(read_blobs=True)
    assert digests(warm) == [digest_of(blobs[seed]) for seed in (3, 0)]


def test_a_pinned_blob_stays_until_its_last_unpin(tmp_path: Path) -> None:
    first, second, third = (make_blob(seed, 100) for seed in range(3))
    cache = make_cache(tmp_path, 100)
    put(cache, first)
    for _ in range(2):
        cache.pin(digest_of(first))
    for _ in range(2):
        with pytest.raises(Overloaded, match="no room"):
            put(cache, second)
        cache.unpin(digest_of(first))
    put(cache, third)
    assert digests(cache) == [digest_of(third)]
    with pytest.raises(KeyError):
        cache.unpin(digest_of(first))


def test_a_pin_of_another_process_counts_until_it_dies(tmp_path: Path) -> None:
    first, second = make_blob(1, 100), make_blob(2, 100)
    cache = make_cache(tmp_path, 100)
    put(cache, first)
    program = (
        "import sys; from pathlib import Path; from adapter_cache.node_cache import NodeCache\n"
        "cache = NodeCache(Path(sys.argv[1]), 100); print(cache.pin(sys.argv[2]), flush=True)\n"
        "sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path), digest_of(first)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with other:
        assert other.stdout is not None
        assert other.stdout.readline()
        with pytest.raises(Overloaded):
            put(cache, second)
        other.kill()
    put(cache, second)
    assert digests(cache) == [digest_of(second)]


def test_a_blob_too_big_for_the_budget_empties_nothing(tmp_path: Path) -> None:
    cache = make_cache(tmp_path, 100)
    put(cache, make_blob(1, 60))
    with pytest.raises(Overloaded):
        put(cache, make_blob(2, 101))
    assert digests(cache) == [digest_of(make_blob(1, 60))]


def test_a_disk_that_fails_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = make_cache(tmp_path, 1_000)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(Overloaded, match="No space"):
        put(cache, make_blob(1))
    monkeypatch.undo()
    cache.check_integrity()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".frequency", ".ledger"]


def test_a_full_disk_is_relieved_by_eviction_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = make_blob(1, 100), make_blob(2, 100)
    cache, write = make_cache(tmp_path, 1_000), Arrival.write
    put(cache, old)

    def write_if_room(blob: Arrival, path: Path) -> None:
        if (tmp_path / digest_of(old)).exists():
            path.write_bytes(blob.pieces[0][:50])
            raise OSError(28, "No space left on device")
        write(blob, path)

    monkeypatch.setattr(Arrival, "write", write_if_room)
    cache.pin(digest_of(old))
    with pytest.raises(Overloaded, match="No space"):
        put(cache, new)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [".frequency", ".ledger", digest_of(old)]
    )
    cache.unpin(digest_of(old))
    put(cache, new)
    assert digests(cache) == [digest_of(new)]
    cache.check_integrity(read_blobs=True)


def test_a_dropped_blob_is_gone_unless_pinned(tmp_path: Path) -> None:
    cache, blob = make_cache(tmp_path, 1_000), make_blob(1, 100)
    put(cache, blob)
    cache.pin(digest_of(blob))
    assert not cache.drop(digest_of(blob))
    cache.unpin(digest_of(blob))
    assert cache.drop(digest_of(blob))
    assert not cache.drop(digest_of(blob))
    assert cache.get(digest_of(blob)) is None
    assert cache.usage() == NodeUsage(0, 1_000, 0)
    cache.check_integrity()


def test_usage_tells_bytes_and_evictions(tmp_path: Path) -> None:
    cache = make_cache(tmp_path, 250)
    put(cache, *(make_blob(seed, 100) for seed in range(3)))
    assert cache.usage() == NodeUsage(200, 250, 1)


@pytest.mark.parametrize(
    "digest", ["", ".", "..", "../escape", "/etc/passwd", ".ledger", "A" * 64, "a" * 64 + "\n"]
)
def test_names_that_are_no_digest_are_refused(tmp_path: Path, digest: str) -> None:
    cache = make_cache(tmp_path / "node", 1_000)
    for call in (cache.get, cache.pin, cache.drop, lambda name: cache.put(name, b"x")):
        with pytest.raises(AdapterCorrupt):
            call(Digest(digest))
    assert [path.name for path in tmp_path.iterdir()] == ["node"]


def test_wrong_bytes_make_no_file(tmp_path: Path) -> None:
    cache = make_cache(tmp_path, 1_000)
    with pytest.raises(AdapterCorrupt):
        cache.put(digest_of(b"right"), b"wrong")
    assert digests(cache) == []


def test_check_integrity_finds_what_is_wrong(tmp_path: Path) -> None:
    cache, blob = make_cache(tmp_path, 1_000), make_blob(1)
    path = cache.put(digest_of(blob), blob)
    cache.pin(digest_of(blob))
    path.write_bytes(bytes(len(blob)))
    cache.check_integrity()
    with pytest.raises(AdapterCorrupt, match="digest"):
        cache.check_integrity(read_blobs=True)
    path.write_bytes(blob[:-1])
    with pytest.raises(AdapterCorrupt, match="ledger"):
        cache.check_integrity()
    path.unlink()
    (tmp_path / ".ledger").write_text("0")
    with pytest.raises(AdapterCorrupt, match="pinned"):
        cache.check_integrity()
    cache.unpin(digest_of(blob))


def test_two_caches_share_a_directory_under_fire(tmp_path: Path) -> None:
    caches = [NodeCache(tmp_path, 1_000) for _ in range(2)]
    blobs = [make_blob(seed, 100) for seed in range(30)]

    def hold(number: int) -> None:
        cache, blob = caches[number % 2], blobs[number * 7 % len(blobs)]
        digest = digest_of(blob)
        while cache.pin(digest) is None:
            cache.put(digest, blob)
        assert (tmp_path / digest).read_bytes() == blob
        cache.unpin(digest)

    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(hold, range(600)):
            pass
    for cache in caches:
        cache.check_integrity(read_blobs=True)


def test_racing_processes_keep_integrity(tmp_path: Path) -> None:
    program = (
        "import random, sys; from pathlib import Path\n"
        "from adapter_cache.node_cache import NodeCache\n"
        "from tests.adapter_cache.adapters import digest_of, make_blob\n"
        "cache, rng = NodeCache(Path(sys.argv[1]), 3_000), random.Random(int(sys.argv[2]))\n"
        "for _ in range(400):\n"
        "    blob = make_blob(int(60 * rng.random() ** 2), 100)\n"
        "    while cache.pin(digest_of(blob)) is None: cache.put(digest_of(blob), blob)\n"
        "    assert (Path(sys.argv[1]) / digest_of(blob)).read_bytes() == blob\n"
        "    cache.unpin(digest_of(blob))\n"
        "    if rng.random() < 0.1: cache.drop(digest_of(blob))\n"
        "    assert cache.usage().used_bytes <= 3_000\n"
        "cache.check_integrity(read_blobs=True)\n"
    )
    commands = [[sys.executable, "-c", program, str(tmp_path), str(seed)] for seed in range(4)]
    others = [subprocess.Popen(command) for command in commands]
    assert [other.wait() for other in others] == [0] * 4
    NodeCache(tmp_path, 3_000).check_integrity(read_blobs=True)
