from hypothesis import given
from hypothesis import strategies as st

from contracts.adapters import DEFAULT_TENANT, AdapterKey
from replicas.served_names import ServedNames
from tests.replicas.keys import digest_of, key_of, moved


def current(names: ServedNames, name: str) -> AdapterKey | None:
    return names.current(DEFAULT_TENANT, name)


def test_the_newest_version_stays() -> None:
    names = ServedNames(10)
    for version in (1, 3, 2):
        names.note(key_of("a", version))
    assert current(names, "a") == key_of("a", 3)
    assert names.serves(key_of("a", 3).digest)
    assert not names.serves(key_of("a", 1).digest)
    assert not names.serves(key_of("a", 2).digest)


def test_names_that_were_not_asked_for_lately_are_forgotten() -> None:
    names = ServedNames(2)
    for name in ("a", "b", "a", "c"):
        names.note(key_of(name))
    assert [ref.name for ref in names.refs()] == ["a", "c"]
    assert not names.serves(key_of("b").digest)


def test_changes_are_followed_for_names_that_were_served() -> None:
    names = ServedNames(10)
    names.note(key_of("a"))
    names.apply(moved(key_of("a"), key_of("a", 2)))
    names.apply(moved(None, key_of("b")))
    assert current(names, "a") == key_of("a", 2)
    assert current(names, "b") is None
    names.apply(moved(key_of("a", 2), None))
    assert len(names) == 0
    assert not names.serves(key_of("a", 2).digest)


def test_late_news_changes_nothing() -> None:
    names = ServedNames(10)
    names.note(key_of("a", 4))
    for late in (moved(key_of("a"), key_of("a", 2)), moved(key_of("a", 2), None)):
        names.apply(late)
    assert current(names, "a") == key_of("a", 4)


def test_equal_bytes_of_two_names_are_counted() -> None:
    names = ServedNames(10)
    names.note(key_of("a", content="same"))
    names.note(key_of("b", content="same"))
    names.apply(moved(key_of("a", content="same"), None))
    assert names.serves(digest_of("same"))
    names.apply(moved(key_of("b", content="same"), key_of("b", 2)))
    assert not names.serves(digest_of("same"))


def test_differences_to_what_the_registry_says() -> None:
    names = ServedNames(10)
    for name in "abc":
        names.note(key_of(name, 2))
    refs = names.refs()
    keys = [key_of("a", 2), key_of("b", 3), None]
    changes = [moved(key_of("b", 2), key_of("b", 3)), moved(key_of("c", 2), None)]
    assert names.differences(refs, keys) == changes
    assert names.went_back(refs, keys)
    assert not names.went_back(refs[:2], keys[:2])
    assert names.went_back(refs[:1], [key_of("a")])


KEYS = st.builds(
    key_of, st.sampled_from("abcd"), st.integers(1, 4), st.sampled_from(["", "x", "y"])
)
Step = tuple[str, AdapterKey, AdapterKey]
STEPS = st.lists(
    st.one_of(KEYS.map(lambda key: ("note", key, key)), st.tuples(st.just("move"), KEYS, KEYS)),
    max_size=60,
)


@given(STEPS)
def test_digests_are_counted_right_and_names_bounded(
    steps: list[Step],
) -> None:
    names = ServedNames(3)
    for kind, old, key in steps:
        if kind == "note":
            names.note(key)
        else:
            names.apply(moved(old, None if key.version == 4 else key_of(old.name, key.version)))
        served = [names.current(ref.tenant, ref.name) for ref in names.refs()]
        digests = {key.digest for key in served if key}
        assert len(served) <= 3
        assert set(names._digests) == digests
        assert all(names.serves(digest) for digest in digests)
