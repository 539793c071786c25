from hypothesis import given
from hypothesis import strategies as st

from adapter_cache.history import as_version, outdated, rollback_target
from contracts.adapters import DEFAULT_TENANT, AdapterKey, AdapterManifest, Digest

versions = st.sets(st.integers(1, 40))


def make_history(digests: str) -> list[AdapterManifest]:
    return [
        AdapterManifest(
            AdapterKey(DEFAULT_TENANT, "ada", version, Digest(digest), 1), "base", 1, 1, 0.0
        )
        for version, digest in enumerate(digests, 1)
    ]


@given(versions, versions, st.integers(1, 10))
def test_pruning_spares_the_newest_and_the_pinned(
    numbers: set[int], pinned: set[int], keep_versions: int
) -> None:
    gone = outdated(numbers, pinned, keep_versions)
    newest = sorted(numbers, reverse=True)[:keep_versions]
    assert set(gone) == numbers - pinned - set(newest)
    assert outdated(numbers - set(gone), pinned, keep_versions) == []


@given(st.text("abc", max_size=8))
def test_a_rollback_without_a_number_leaves_the_current_bytes(digests: str) -> None:
    history = make_history(digests)
    target = rollback_target(history, None)
    rest = digests.rstrip(digests[-1]) if digests else ""
    assert (target.key.version if target else 0) == len(rest)


def test_a_rollback_finds_its_number_or_nothing() -> None:
    history = make_history("abc")
    assert rollback_target(history, 2) == history[1]
    assert rollback_target(history[1:], 1) is None
    assert rollback_target([], None) is None


def test_another_version_of_the_same_bytes() -> None:
    [first] = make_history("a")
    again = as_version(first, 7, 5.0)
    assert (again.key.version, again.key.digest, again.created_at_s) == (7, first.key.digest, 5.0)
