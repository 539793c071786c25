"""What a new replica warms is what it will be asked for."""

from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.adapters import AdapterKey
from routing.share import own_share
from tests.routing.test_chooser import make_chooser, make_key

KEYS = [make_key(number) for number in range(200)]
NAMES = st.lists(st.text("abcdef", min_size=1, max_size=6), min_size=1, max_size=6, unique=True)


@settings(deadline=None)
@given(NAMES)
def test_every_adapter_is_the_share_of_one(names: list[str]) -> None:
    shares = [own_share(KEYS, name, [n for n in names if n != name]) for name in names]
    owned = [key for share in shares for key in share]
    assert sorted(owned, key=lambda key: key.name) == sorted(KEYS, key=lambda key: key.name)


@settings(deadline=None)
@given(NAMES)
def test_the_share_is_what_doors_send_there(names: list[str]) -> None:
    chooser, _ = make_chooser(*names)
    homes = chooser.homes(KEYS)
    for name in names:
        assert own_share(KEYS, name, names) == list(homes.get(name, ()))


def test_a_lone_replica_has_all() -> None:
    none: list[AdapterKey] = []
    assert own_share(KEYS, "a", []) == KEYS
    assert own_share(none, "a", ["b"]) == []
