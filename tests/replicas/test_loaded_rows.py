from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from contracts.adapters import Digest
from replicas.loaded_rows import LoadedRows
from tests.replicas.keys import digest_of

A, B, C = (digest_of(name) for name in "abc")


def test_a_row_is_loaded_once_while_it_is_sure_to_be_there() -> None:
    rows = LoadedRows(2)
    assert not rows.enter("1", A)
    rows.confirm(A)
    assert rows.enter("2", A)
    for digest in (B, C):
        rows.confirm(digest)
    assert not rows.enter("3", A)
    assert rows.enter("4", C)
    assert (rows.hits, rows.misses) == (2, 3)


def test_a_row_that_turns_out_to_be_there_is_a_hit() -> None:
    rows = LoadedRows(0)
    for was_there in (False, True, True):
        assert not rows.enter("1", A)
        rows.confirm(A, was_there)
    assert (rows.hits, rows.misses) == (2, 1)


def test_kinds_of_rows_share_their_numbers() -> None:
    ids = count(1)
    one, other = LoadedRows(2, ids), LoadedRows(2, ids)
    assert [one.id_of(A), other.id_of(B), one.id_of(C), one.id_of(A)] == [1, 2, 3, 1]


def test_release_waits_for_the_last_user() -> None:
    rows = LoadedRows(2)
    for request_id in ("1", "2"):
        rows.enter(request_id, A)
    rows.confirm(A)
    assert rows.release(A) is None
    rows.leave("1")
    assert rows.release(A) is None
    rows.leave("2")
    rows.leave("unknown")
    assert rows.release(A) == rows.id_of(A)
    assert rows.release(B) is None


def test_what_was_released_is_loaded_again_under_its_number() -> None:
    rows = LoadedRows(2)
    rows.enter("1", A)
    rows.confirm(A)
    rows.leave("1")
    before = rows.id_of(A), rows.name_of(A)
    assert rows.release(A) == before[0]
    assert not rows.enter("2", A)
    assert (rows.id_of(A), rows.name_of(A)) == before


def test_a_failed_load_changes_the_name_for_the_prefix_cache() -> None:
    rows = LoadedRows(2)
    rows.enter("1", A)
    rows.fail(A)
    assert rows.name_of(A) not in (A, "")
    assert rows.name_of(B) == B
    assert "1 in use" in repr(rows)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["enter", "confirm", "leave", "release"]),
        st.sampled_from([A, B, C]),
        st.integers(0, 4).map(str),
    ),
    max_size=60,
)


@given(STEPS)
def test_ids_hold_and_nothing_in_use_is_released(steps: list[tuple[str, Digest, str]]) -> None:
    """Against a model: a list of what is loaded, last used last, and who uses what."""
    rows = LoadedRows(2)
    ids: dict[Digest, int] = {}
    users: dict[str, Digest] = {}
    loaded: list[Digest] = []
    for kind, digest, request_id in steps:
        if kind == "leave":
            rows.leave(request_id)
            users.pop(request_id, None)
        elif kind == "release":
            released = rows.release(digest)
            assert released == (None if digest in users.values() else ids.get(digest))
            loaded = [each for each in loaded if each != digest or released is None]
        else:
            if kind == "enter":
                assert rows.enter(request_id, digest) == (digest in loaded)
                users[request_id] = digest
            else:
                rows.confirm(digest)
            if kind == "confirm" or digest in loaded:
                loaded = [*(each for each in loaded if each != digest), digest][-2:]
            assert ids.setdefault(digest, rows.id_of(digest)) == rows.id_of(digest)
    assert sorted(ids.values()) == list(range(1, len(ids) + 1))
