from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_cache.version_entry import (
    VersionEntry,
    decode_entry,
    encode_entry,
    entry_of,
    last_tombstone,
    live_versions,
)
from contracts.adapters import DEFAULT_TENANT, AdapterKey, AdapterManifest, Digest
from contracts.errors import AdapterCorrupt

counts = st.integers(1, 2**40)
manifests = st.builds(
    AdapterManifest,
    key=st.builds(
        AdapterKey,
        tenant=st.just(DEFAULT_TENANT),
        name=st.just("ada"),
        version=counts,
        digest=st.text("0123456789abcdef", min_size=64, max_size=64).map(Digest),
        size_bytes=counts,
    ),
    base_fingerprint=st.text(),
    rank=counts,
    num_modules=counts,
    created_at_s=st.floats(allow_nan=False),
)
entries = manifests.map(entry_of) | counts.map(lambda version: VersionEntry(version, None))
SAMPLE = AdapterManifest(AdapterKey(DEFAULT_TENANT, "ada", 1, Digest("a" * 64), 9), "b", 1, 2, 3.5)


@given(entries)
def test_an_entry_is_read_as_it_was_written(entry: VersionEntry) -> None:
    assert decode_entry(DEFAULT_TENANT, "ada", entry.version, encode_entry(entry)) == entry


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff",
        b"[]",
        b"null",
        b'{"version": 2, "deleted": true}',
        b'{"version": 1}',
        encode_entry(entry_of(SAMPLE))[:-1],
        encode_entry(entry_of(SAMPLE)).replace(b'"rank": 1', b'"rank": "x"'),
    ],
)
def test_a_damaged_entry_is_named(text: bytes) -> None:
    with pytest.raises(AdapterCorrupt, match="'ada' version 1"):
        decode_entry(DEFAULT_TENANT, "ada", 1, text)


@given(st.lists(st.booleans(), max_size=8), st.randoms())
def test_what_lives_is_what_follows_the_last_tombstone(kinds: list[bool], rng: object) -> None:
    made = [
        entry_of(replace(SAMPLE, key=replace(SAMPLE.key, version=number)))
        if is_version
        else VersionEntry(number, None)
        for number, is_version in enumerate(kinds, 1)
    ]
    shuffled = list(made)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    tombstone = max((each.version for each in made if each.manifest is None), default=0)
    assert last_tombstone(shuffled) == tombstone
    expected = [*range(tombstone + 1, len(made) + 1)]
    assert [manifest.key.version for manifest in live_versions(shuffled)] == expected
