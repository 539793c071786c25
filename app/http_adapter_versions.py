"""What can be done with an adapter that is published: rollback, prefetch, pin and unpin."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field

from app.adapter_entry import adapter_entry
from app.door import Door
from app.http_auth import requires
from app.http_body import parse_json, read_body
from app.http_schemas import Wire
from contracts.access import Caller, Scope
from contracts.adapters import ADAPTER_NAME, AdapterManifest, AdapterRef, TenantId
from contracts.errors import InvalidRequest, Overloaded

MAX_VERSION = 999_999_999
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
        manifest = None
        if _named(name):
            manifest = await door.store.rollback(caller.tenant, name, wanted, door.clock())
        if manifest is None:
            raise await _no_rollback(door, caller.tenant, name, wanted)
        return adapter_entry(door.base_model, manifest)

    @router.post("/prefetch", status_code=202)
    async def prefetch(name: str, version: Version, caller: writer) -> dict[str, Any]:
        """The bytes are in Redis when this answers; replicas have been told to fetch them."""
        ref = AdapterRef(caller.tenant, name, version)
        manifest = await door.store.prefetch(ref) if _named(name) else None
        if manifest is None:
            raise await door.unknown(_shown(name, version))
        if not door.prefetcher.tell((manifest.key,)):
            raise Overloaded("Too many prefetches at a time.")
        return adapter_entry(door.base_model, manifest)

    @router.put("/pin")
    async def pin(name: str, version: Version, caller: writer) -> dict[str, Any]:
        """The version is not pruned, however many come after it."""
        ref = AdapterRef(caller.tenant, name, version)
        manifest = await door.store.pin(ref) if _named(name) else None
        return {**await _entry(door, manifest, name, version), "pinned": True}

    @router.delete("/pin")
    async def unpin(name: str, version: Version, caller: writer) -> dict[str, Any]:
        """The version may be pruned again, by the next publish."""
        ref = AdapterRef(caller.tenant, name, version)
        manifest = await door.store.unpin(ref) if _named(name) else None
        return {**await _entry(door, manifest, name, version), "pinned": False}

    return router


async def _rollback_body(request: Request) -> RollbackBody:
    body = await read_body(request, _MAX_BODY_BYTES)
    return parse_json(body, RollbackBody) if body else RollbackBody()


async def _no_rollback(door: Door, tenant: TenantId, name: str, version: int | None) -> Exception:
    """Nothing to go back to is another fault than nothing there."""
    if version is None and _named(name):
        current = await door.store.describe(AdapterRef(tenant, name))
        if current is not None:
            return InvalidRequest(f"adapter '{name}' has no other version to go back to", "version")
    return await door.unknown(_shown(name, version))


async def _entry(
    door: Door, manifest: AdapterManifest | None, name: str, version: int | None
) -> dict[str, Any]:
    if manifest is None:
        raise await door.unknown(_shown(name, version))
    return adapter_entry(door.base_model, manifest)


def _named(name: str) -> bool:
    return ADAPTER_NAME.fullmatch(name) is not None


def _shown(name: str, version: int | None) -> str:
    return name if version is None else f"{name}@{version}"
