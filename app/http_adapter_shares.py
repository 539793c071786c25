"""PUT and DELETE /v1/adapters/{name}/shares/{tenant} and /v1/adapters/{name}/public."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from app.adapter_shares import Readers, require_reader, share, unshare
from app.door import Door
from app.http_auth import requires
from contracts.access import Caller, Scope
from contracts.adapters import PUBLIC


def adapter_share_routes(door: Door) -> APIRouter:
    """Letting other tenants use `door`'s adapters. Public has a path of its own, as a tenant may
    have any name.
    """
    router = APIRouter(prefix="/v1/adapters/{name}")
    writer = Annotated[Caller, Depends(requires(door, Scope.ADAPTERS_WRITE))]

    @router.put("/shares/{tenant}")
    async def share_with(name: str, tenant: str, caller: writer) -> dict[str, Any]:
        """The tenant may generate with the adapter, all versions, until it is deleted."""
        reader = require_reader(caller, tenant)
        return {"name": name, **readers_entry(await share(door, caller, name, reader))}

    @router.delete("/shares/{tenant}")
    async def unshare_with(name: str, tenant: str, caller: writer) -> dict[str, Any]:
        """The tenant may not any more, unless the adapter is public."""
        reader = require_reader(caller, tenant)
        return {"name": name, **readers_entry(await unshare(door, caller, name, reader))}

    @router.put("/public")
    async def publicise(name: str, caller: writer) -> dict[str, Any]:
        """Every tenant may generate with the adapter."""
        return {"name": name, **readers_entry(await share(door, caller, name, PUBLIC))}

    @router.delete("/public")
    async def withdraw(name: str, caller: writer) -> dict[str, Any]:
        """Only the tenants that it is shared with may."""
        return {"name": name, **readers_entry(await unshare(door, caller, name, PUBLIC))}

    return router


def readers_entry(readers: Readers) -> dict[str, Any]:
    """The fields that say who else may use an adapter."""
    return {"public": readers.is_public, "shared_with": list(readers.tenants)}
