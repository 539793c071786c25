import pickle
import re
from collections.abc import Iterator

import pytest

from contracts import errors
from contracts.errors import CallerError, RateLimited, ServiceError, ServingError


def descend(error: type[ServingError]) -> Iterator[type[ServingError]]:
    yield error
    for child in error.__subclasses__():
        if child.__module__ == errors.__name__:  # edges may add leaves of their own
            yield from descend(child)


TREE = tuple(descend(ServingError))


def drawn_parents() -> dict[str, str]:
    """Parent of every class in the tree that the module's docstring draws."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^((?:\|   |    |\|-- |`-- )*)([A-Z]\w+)(  |$)", line)
        if match:
            depth = len(match[1]) // 4
            path[depth:] = [match[2]]
            parents[match[2]] = path[depth - 1] if depth else "Exception"
    return parents


def test_tree_is_as_drawn() -> None:
    assert drawn_parents() == {error.__name__: error.__bases__[0].__name__ for error in TREE}


@pytest.mark.parametrize("error", TREE)
def test_error_pickles_intact(error: type[ServingError]) -> None:
    before = error("adapter 'a' is not here", "model")
    after = pickle.loads(pickle.dumps(before))
    assert type(after) is error
    assert (after.message, after.param, str(after)) == (before.message, "model", before.message)


@pytest.mark.parametrize("error", TREE)
def test_code_is_a_stable_word(error: type[ServingError]) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", error.code)


def test_leaves_have_codes_of_their_own() -> None:
    groups = {CallerError, ServiceError, ServingError}
    codes = [error.code for error in TREE if error not in groups]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("error", TREE)
def test_only_our_own_faults_and_a_full_quota_are_worth_a_retry(error: type[ServingError]) -> None:
    assert error.retryable is issubclass(error, ServiceError | RateLimited)
