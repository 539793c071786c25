"""API keys in the stores themselves, beside a running server or without one, for the CLI."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from adapter_cache.config import CacheConfig
from app.key_issuer import KeyIssuer
from app.maintenance import reachable
from app.registry_rebuild import key_issuer
from app.stores import open_stores
from contracts.errors import NotReady

T = TypeVar("T")


def with_issuer(cache: CacheConfig, work: Callable[[KeyIssuer], Awaitable[T]]) -> T:
    """Do something with keys. Raises what `work` does, StoreUnavailable, NotReady."""
    with reachable(cache) as found:
        return asyncio.run(_with_issuer(found, work))


def require_some_key(cache: CacheConfig) -> None:
    """Raises NotReady where no key would open the server, StoreUnavailable."""
    if not with_issuer(cache, KeyIssuer.has_usable):
        raise NotReady(
            "callers need a key, and there is none: make the first with `flora keys create`, with "
            "this server's --config, --set and environment"
        )


async def _with_issuer(cache: CacheConfig, work: Callable[[KeyIssuer], Awaitable[T]]) -> T:
    stores = open_stores(cache)
    try:
        return await work(key_issuer(stores))
    finally:
        await stores.close()
