import dataclasses
import pickle

import pytest

from contracts.adapters import (
    ADAPTER_NAME,
    BASE,
    DEFAULT_TENANT,
    AdapterKey,
    AdapterManifest,
    AdapterRef,
    Digest,
)


def make_key(digest: str = "ab" * 32) -> AdapterKey:
    return AdapterKey(DEFAULT_TENANT, "pirate", 3, Digest(digest), 512)


def make_manifest() -> AdapterManifest:
    return AdapterManifest(make_key(), "f" * 64, rank=1, num_modules=4, created_at_s=1.5)


@pytest.mark.parametrize("value", [make_key(), AdapterRef(DEFAULT_TENANT, "a"), make_manifest()])
def test_identity_is_frozen_and_hashable(value: AdapterKey | AdapterRef | AdapterManifest) -> None:
    first_field = dataclasses.fields(value)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, first_field, "other")
    assert len({value, pickle.loads(pickle.dumps(value))}) == 1


def test_keys_differ_by_digest() -> None:
    assert make_key() == make_key()
    assert make_key() != make_key("cd" * 32)


def test_base_is_the_key_without_a_digest() -> None:
    assert BASE.is_base
    assert not make_key().is_base


@pytest.mark.parametrize("name", ["pirate", "a", "9", "team.sales_v2-b", "A" * 96])
def test_names_that_may_be_used(name: str) -> None:
    assert ADAPTER_NAME.fullmatch(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "-a", "_a", "a/b", "a:b", "a@1", "a b", "ä", "a\n", "A" * 97]
)
def test_names_that_are_refused(name: str) -> None:
    assert not ADAPTER_NAME.fullmatch(name)
