from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from adapter_cache.fsspec_objects import NameFiles
from adapter_cache.repair import Repair, plan_repair
from adapter_cache.version_entry import VersionEntry, live_versions
from contracts.adapters import DEFAULT_TENANT, PUBLIC, AdapterManifest, TenantId
from tests.adapter_cache.adapters import make_blob, make_key

BEFORE_S = 1000.0
NUMBERS = st.sets(st.integers(1, 8))


def version(number: int) -> AdapterManifest:
    return AdapterManifest(replace(make_key(make_blob(1)), version=number), "base", 1, 2, 3.0)


def files_of(entries: list[VersionEntry], pins: set[int], written_s: float = 0.0) -> NameFiles:
    written = {entry.version: written_s for entry in entries}
    return NameFiles(DEFAULT_TENANT, "ada", written, frozenset(pins))


@given(NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS)
def test_a_repaired_registry_says_what_the_store_says(
    numbers: set[int], tombstones: set[int], pins: set[int], known: set[int], pinned: set[int]
) -> None:
    entries = [
        VersionEntry(number, None if number in tombstones else version(number))
        for number in sorted(numbers)
    ]
    repair = plan_repair(
        files_of(entries, pins), entries, map(version, known), pinned, {}, before_s=BEFORE_S
    )
    recorded = {number for number in known if number > repair.remove_up_to}
    recorded |= {manifest.key.version for manifest in repair.advance}
    recorded -= repair.forget
    live = {manifest.key.version for manifest in live_versions(entries)}
    highest = max(numbers, default=0)
    assert recorded == live | {number for number in known if number > highest}
    marked = (pinned | repair.pin) - repair.unpin
    assert marked & live == pins & live
    # Nothing is left to repair.
    again = plan_repair(
        files_of(entries, pins), entries, map(version, recorded), marked, {}, before_s=BEFORE_S
    )
    assert again == Repair()


def test_the_current_version_is_recorded_first() -> None:
    entries = [VersionEntry(number, version(number)) for number in (1, 2, 3)]
    repair = plan_repair(files_of(entries, set()), entries, [], [], {}, before_s=BEFORE_S)
    assert [manifest.key.version for manifest in repair.advance] == [3, 2, 1]


def test_what_is_young_is_left_to_its_publisher() -> None:
    entries = [VersionEntry(1, version(1))]
    files = files_of(entries, set(), written_s=BEFORE_S)
    assert plan_repair(files, entries, [], [], {}, before_s=BEFORE_S) == Repair()


def test_a_damaged_entry_keeps_its_record() -> None:
    files = NameFiles(DEFAULT_TENANT, "ada", {1: 0.0, 2: 0.0}, frozenset())
    entries = [VersionEntry(2, version(2))]
    known = [version(1), version(2)]
    assert plan_repair(files, entries, known, [], {}, before_s=BEFORE_S) == Repair()


READERS = st.sampled_from([TenantId("acme"), TenantId("a.b"), PUBLIC])


@given(
    NUMBERS, NUMBERS, st.sets(st.tuples(st.integers(1, 9), READERS)),
    st.dictionaries(READERS, st.integers(1, 9)),
)  # fmt: skip
def test_repaired_shares_are_those_that_no_tombstone_ended(
    numbers: set[int],
    tombstones: set[int],
    stored: set[tuple[int, TenantId]],
    known: dict[TenantId, int],
) -> None:
    entries = [
        VersionEntry(number, None if number in tombstones else version(number))
        for number in sorted(numbers)
    ]
    files = replace(files_of(entries, set()), shares=frozenset(stored))
    live = live_versions(entries)
    repair = plan_repair(files, entries, live, [], known, before_s=BEFORE_S)
    shared = {reader: number for reader, number in known.items() if reader not in repair.unshare}
    shared |= {reader: number for number, reader in repair.share}
    ended = max(tombstones & numbers, default=0)
    newer_than_the_listing = {
        reader for reader, number in known.items() if number > max(numbers, default=0)
    }
    if live:
        kept = {reader for number, reader in stored if number > ended}
        assert set(shared) == kept | newer_than_the_listing
    else:
        assert not repair.share
    again = plan_repair(files, entries, live, [], shared, before_s=BEFORE_S)
    assert not again.share
    assert not again.unshare
