"""Which servers are open, and which refuse to be."""

import pytest

from adapter_cache.config import CacheConfig
from adapter_cache.registry_guard import AlwaysWhole
from app.access_policy import is_loopback, keys_required, make_authoriser
from app.auth import KeyAuthoriser, OpenToAll
from app.config import AuthSettings, ServerSettings, Settings
from app.stores import open_stores
from contracts.errors import InvalidRequest


def settings(host: str, required: bool | None = None) -> Settings:
    return Settings(server=ServerSettings(host=host), auth=AuthSettings(required=required))


NEAR = ["127.0.0.1", "127.8.8.8", "::1", "localhost"]
FAR = ["0.0.0.0", "::", "10.0.0.1", "192.168.1.2", "example.org", "127.0.0.1.example.org", ""]


@pytest.mark.parametrize("host", NEAR)
def test_the_loopback_is_open_unless_keys_are_asked_for(host: str) -> None:
    assert is_loopback(host)
    assert [keys_required(settings(host, asked)) for asked in (None, False, True)] == [
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("host", FAR)
def test_elsewhere_nothing_opens_a_server(host: str) -> None:
    assert not is_loopback(host)
    assert keys_required(settings(host))
    assert keys_required(settings(host, True))
    with pytest.raises(InvalidRequest, match=r"auth\.required"):
        keys_required(settings(host, False))


async def test_the_authoriser_is_what_the_settings_ask_for() -> None:
    stores = open_stores(CacheConfig(redis_url="redis://127.0.0.1:1/0"))
    made = [make_authoriser(settings(host), stores, AlwaysWhole()) for host in ("::1", "0.0.0.0")]
    assert [type(each) for each in made] == [OpenToAll, KeyAuthoriser]
    with pytest.raises(InvalidRequest):
        make_authoriser(settings("0.0.0.0", False), stores, AlwaysWhole())
    await stores.close()
