"""GET /v1/replicas: what serves now, and how well its caches do."""

import asyncio
from typing import Any

from fastapi import APIRouter, Depends

from app.door import Door
from app.http_auth import requires
from app.http_models import list_object
from app.replica_entry import replica_entry
from contracts.access import Scope


def replica_routes(door: Door) -> APIRouter:
    """The replicas behind `door`."""
    router = APIRouter()

    @router.get("/v1/replicas", dependencies=[Depends(requires(door, Scope.ADMIN))])
    async def list_replicas() -> dict[str, Any]:
        """Every replica of every model; one that does not answer in time has no counts."""
        states = await door.replicas()
        # Reading a page takes milliseconds, in which no token would leave.
        entries = await asyncio.to_thread(lambda: [replica_entry(state) for state in states])
        return list_object(entries, has_more=False)

    return router
