"""GET /v1/models, /healthz and /readyz."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from app.door import Door
from app.http_auth import requires
from app.model_name import ModelName
from contracts.access import Caller, Scope
from contracts.adapters import AdapterManifest

MAX_PAGE = 1000
PageLimit = Annotated[int, Query(ge=1, le=MAX_PAGE)]


def model_routes(door: Door) -> APIRouter:
    """What `door` serves, and whether it does."""
    router = APIRouter()
    reader = Annotated[Caller, Depends(requires(door, Scope.GENERATE))]

    @router.get("/v1/models")
    async def list_models(
        caller: reader, limit: PageLimit = 100, after: str = ""
    ) -> dict[str, Any]:
        """The base model, then each adapter in order of name; `after` is the last id seen."""
        base = [] if after else [_base_entry(door)]
        cursor = door.model(after).adapter or "" if after else ""
        room = limit - len(base)
        manifests: list[AdapterManifest] = []
        has_more = True
        if room:
            await door.guard.require_whole()
            manifests, next_cursor = await door.store.page(caller.tenant, cursor, room)
            has_more = bool(next_cursor)
        return list_object([*base, *(_adapter_entry(door, m) for m in manifests)], has_more)

    @router.get("/v1/models/{model_id:path}")
    async def get_model(model_id: str, caller: reader) -> dict[str, Any]:
        """One model."""
        name = door.model(model_id)
        ref = name.ref(caller)
        if ref is None:
            return _base_entry(door)
        manifest = await door.store.describe(ref)
        if manifest is None:
            raise await door.unknown(model_id)
        return {**_adapter_entry(door, manifest), "id": str(name)}

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """This process is alive."""
        return {"status": "ok"}

    @router.get("/readyz")
    async def readyz() -> dict[str, str]:
        """The engine and the store answer now, and the registry is complete."""
        await door.store.ping()
        await door.guard.require_whole()
        await door.ask_replica()
        return {"status": "ready"}

    return router


def list_object(data: list[dict[str, Any]], has_more: bool, key: str = "id") -> dict[str, Any]:
    """One page as the OpenAI API gives lists; `key` is the field that `after` refers to."""
    return {
        "object": "list",
        "data": data,
        "first_id": data[0][key] if data else None,
        "last_id": data[-1][key] if data else None,
        "has_more": has_more,
    }


def _base_entry(door: Door) -> dict[str, Any]:
    return {
        "id": door.base_model,
        "object": "model",
        "created": door.started_at_s,
        "owned_by": "flora-serve",
        "root": door.base_model,
        "parent": None,
    }


def _adapter_entry(door: Door, manifest: AdapterManifest) -> dict[str, Any]:
    return {
        "id": str(ModelName(door.base_model, manifest.key.name)),
        "object": "model",
        "created": int(manifest.created_at_s),
        "owned_by": str(manifest.key.tenant),
        "root": str(ModelName(door.base_model, manifest.key.name, manifest.key.version)),
        "parent": door.base_model,
    }
