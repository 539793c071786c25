"""What can be done with an adapter that is published: rollback, prefetch, pin and unpin."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field

from app import adapter_actions
from app.adapter_actions import MAX_VERSION
from app.adapter_entry import entry_of
from app.door import Door
from app.http_auth import requires
from app.http_body import parse_json, read_body
from app.http_schemas import Wire
from contracts.access import Caller, Scope
from contracts.errors import InvalidRequest

_MAX_BODY_BYTES = 1024


class RollbackBody(Wire):
    """POST /v1/adapters/{name}/rollback; no body at all is one without a version."""

    version: Annotated[int, Field(ge=1, le=MAX_VERSION)] | None = None


def chosen_version(
    request: Request,
    version: Annotated[str | None, Query(pattern=r"^[1-9][0-9]{0,8}$")] = None,
) -> int | None:
    """`?version=`, None for the current one. A misspelt parameter must not mean the current one."""
    given = [name for name, _ in request.query_params.multi_items()]
    for name in given:
        if name != "version" or len(given) > 1:
            raise InvalidRequest(f"'{name}': 'version' is the only parameter, given once", name)
    return None if version is None else int(version)


Version = Annotated[int | None, Depends(chosen_version)]


def adapter_version_routes(door: Door) -> APIRouter:
    """Moving, keeping and announcing versions of `door`'s adapters."""
    router = APIRouter(prefix="/v1/adapters/{name}")
    writer = Annotated[Caller, Depends(requires(door, Scope.ADAPTERS_WRITE))]

    @router.post("/rollback")
    async def rollback(name: str, request: Request, caller: writer) -> dict[str, Any]:
        """An older version's bytes become current again, as a new version."""
        wanted = (await _rollback_body(request)).version
        manifest = await adapter_actions.rollback(door, caller, name, wanted)
        return await entry_of(door, manifest)

    @router.post("/prefetch", status_code=202)
    async def prefetch(name: str, version: Version, caller: writer) -> dict[str, Any]:
        """The bytes are in Redis when this answers; replicas have been told to fetch them."""
        manifest = await adapter_actions.prefetch(door, caller, name, version)
        return await entry_of(door, manifest)

    @router.put("/pin")
    async def pin(name: str, version: Version, caller: writer) -> dict[str, Any]:
        """The version is not pruned, however many come after it."""
        manifest = await adapter_actions.pin(door, caller, name, version)
        return {**await entry_of(door, manifest), "pinned": True}

    @router.delete("/pin")
    async def unpin(name: str, version: Version, caller: writer) -> dict[str, Any]:
        """The version may be pruned again, by the next publish."""
        manifest = await adapter_actions.unpin(door, caller, name, version)
        return {**await entry_of(door, manifest), "pinned": False}

    return router


async def _rollback_body(request: Request) -> RollbackBody:
    body = await read_body(request, _MAX_BODY_BYTES)
    return parse_json(body, RollbackBody) if body else RollbackBody()
