"""With whom a tenant shares its adapters, whichever way it asks. Knows nothing of HTTP or gRPC."""

from dataclasses import dataclass

from app.door import Door
from contracts.access import Caller
from contracts.adapters import ADAPTER_NAME, PUBLIC, TENANT_NAME, TenantId
from contracts.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Readers:
    """Who else may use an adapter: every tenant, or those named, in order."""

    is_public: bool
    tenants: tuple[TenantId, ...]


def require_reader(caller: Caller, tenant: str) -> TenantId:
    """`tenant` as one to share with. Raises InvalidRequest."""
    if not TENANT_NAME.fullmatch(tenant):
        raise InvalidRequest(f"tenants match {TENANT_NAME.pattern}", "tenant")
    if tenant == caller.tenant:
        raise InvalidRequest("an adapter is its owner's without being shared", "tenant")
    return TenantId(tenant)


async def share(door: Door, caller: Caller, name: str, reader: TenantId) -> Readers:
    """Let `reader`, PUBLIC for every tenant, use the adapter until it is deleted.

    Raises UnknownModel, InvalidRequest where it has too many readers, StoreUnavailable.
    """
    if not _named(name) or await door.store.share(caller.tenant, name, reader) is None:
        raise await door.unknown(name)
    return await readers(door, caller, name)


async def unshare(door: Door, caller: Caller, name: str, reader: TenantId) -> Readers:
    """Undo `share`. Requests in flight finish. Raises UnknownModel, StoreUnavailable."""
    if not _named(name) or await door.store.unshare(caller.tenant, name, reader) is None:
        raise await door.unknown(name)
    return await readers(door, caller, name)


async def readers(door: Door, caller: Caller, name: str) -> Readers:
    """Who else may use the caller's adapter; nobody, where there is none."""
    found = await door.store.shares(caller.tenant, name)
    return Readers(PUBLIC in found, tuple(sorted(found - {PUBLIC})))


def _named(name: str) -> bool:
    return ADAPTER_NAME.fullmatch(name) is not None
