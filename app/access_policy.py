"""Who may call this server at all: everybody on the loopback, elsewhere owners of keys."""

import ipaddress

from adapter_cache.registry_guard import Guard
from app.auth import Authoriser, KeyAuthoriser, OpenToAll
from app.config import Settings
from app.keyring import CachedKeyring
from app.stores import Stores
from contracts.errors import InvalidRequest


def keys_required(settings: Settings) -> bool:
    """Whether callers need a key. Raises InvalidRequest where others could call without one."""
    host, required = settings.server.host, settings.auth.required
    if required is None:
        return not is_loopback(host)
    if not required and not is_loopback(host):
        raise InvalidRequest(
            f"auth.required: without keys everybody who reaches server.host {host} could do "
            "everything; listen on 127.0.0.1, or leave auth.required unset",
            "auth.required",
        )
    return required


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        # A name may stand for any address.
        return False


def make_authoriser(settings: Settings, stores: Stores, guard: Guard) -> Authoriser:
    """What the settings ask for, over the keys in `stores`. Raises InvalidRequest."""
    if not keys_required(settings):
        return OpenToAll()
    return KeyAuthoriser(
        CachedKeyring(
            stores.keys,
            ttl_s=settings.auth.cache_ttl_s,
            stale_max_s=settings.cache.stale_max_s,
            guard=guard,
            timeout_s=settings.cache.redis.reply_timeout_s,
        )
    )
