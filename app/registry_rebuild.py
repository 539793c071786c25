"""Rebuilding the registry from the object store: by the door's guard, and by hand."""

import secrets
import time
import uuid
from collections.abc import Callable

from adapter_cache.rebuild import RebuildReport, rebuild
from adapter_cache.registry_guard import RegistryGuard
from app.key_issuer import KeyIssuer
from app.stores import Stores
from contracts.errors import NotReady


def registry_guard(stores: Stores, rebuilt: Callable[[], None]) -> RegistryGuard:
    """A guard that rebuilds from the object store and calls `rebuilt` after each time."""

    async def run() -> RebuildReport:
        # Here too, for a server that was away when this process started.
        await stores.clients.require_safe_eviction()
        await key_issuer(stores).copy_all()
        report = await rebuild(stores.objects, stores.registry)
        rebuilt()
        return report

    return RegistryGuard(stores.marker, run, new_token=_new_token)


async def rebuild_now(
    stores: Stores, progress: Callable[[RebuildReport], None] = lambda _: None
) -> RebuildReport:
    """Rebuild whatever state the registry is in, and call it complete.

    Raises StoreUnavailable, or NotReady where the registry was emptied meanwhile.
    """
    await stores.clients.require_safe_eviction()
    token = await stores.marker.begin(_new_token())
    await key_issuer(stores).copy_all()
    report = await rebuild(stores.objects, stores.registry, progress)
    if token and not await stores.marker.finish(token):
        raise NotReady("The registry was emptied while it was rebuilt: rebuild it again.")
    return report


def key_issuer(stores: Stores) -> KeyIssuer:
    """Changes of the keys in `stores`, with the system's randomness and time."""
    return KeyIssuer(
        stores.key_files,
        stores.keys,
        random_hex=secrets.token_hex,
        random_text=secrets.token_urlsafe,
        clock=time.time,
    )


def _new_token() -> str:
    return uuid.uuid4().hex
