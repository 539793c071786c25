"""Which keys a model takes, by what is known of the bases."""

from collections.abc import Sequence

import pytest

from app.own_adapters import OwnAdapters
from contracts.adapters import AdapterKey, AdapterRef, Digest, TenantId
from contracts.errors import StoreUnavailable, WrongBaseModel

US, THEM = TenantId("us"), TenantId("them")
DOWN = StoreUnavailable("down")


class Names:
    """Gives the answers that it was made with."""

    def __init__(self, *found: AdapterKey | StoreUnavailable | None) -> None:
        self.found = found

    async def resolve(
        self, refs: Sequence[AdapterRef]
    ) -> Sequence[AdapterKey | StoreUnavailable | None]:
        return self.found[: len(refs)]


def key(base: str) -> AdapterKey:
    return AdapterKey(US, "ada", 1, Digest("0" * 64), 9, base)


@pytest.mark.parametrize("bases", [{}, {"b": "two"}, {"a": "one"}, {"a": "one", "b": "two"}])
async def test_what_is_its_own_or_cannot_be_told_passes(bases: dict[str, str]) -> None:
    found = (key("one"), key(""), None, DOWN)
    refs = [AdapterRef(US, "ada")] * len(found)
    assert tuple(await OwnAdapters(Names(*found), "a", bases).resolve(refs)) == found


@pytest.mark.parametrize(
    ("ref", "bases", "told"),
    [
        (AdapterRef(US, "ada"), {"a": "one", "b": "two"}, "ask for 'b:ada'"),
        (AdapterRef(US, "ada", 3, THEM), {"a": "one", "b": "two"}, "ask for 'b:us/ada'"),
        (AdapterRef(US, "ada"), {"a": "one"}, "than 'a'."),
    ],
)
async def test_what_is_anothers_is_refused_with_its_name(
    ref: AdapterRef, bases: dict[str, str], told: str
) -> None:
    (refusal,) = await OwnAdapters(Names(key("two")), "a", bases).resolve([ref])
    assert isinstance(refusal, WrongBaseModel)
    assert told in str(refusal)
