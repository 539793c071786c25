"""GET /v1/models, /healthz and /readyz."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from app.door import Door
from app.http_auth import requires
from app.model_name import ModelName, wrong_base
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
        """The base models, then each adapter in order of name; `after` is the last id seen."""
        last = door.model(after) if after else None
        cursor = last.adapter or "" if last else ""
        bases = [] if cursor else _after(list(door.models), last.base if last else None)[:limit]
        room = limit - len(bases)
        manifests: list[AdapterManifest] = []
        has_more = True
        if room:
            await door.guard.require_whole()
            manifests, next_cursor = await door.store.page(caller.tenant, cursor, room)
            has_more = bool(next_cursor)
        adapters = [_adapter_entry((await door.model_of(m)).name, m) for m in manifests]
        return list_object([*(_base_entry(door, base) for base in bases), *adapters], has_more)

    @router.get("/v1/models/{model_id:path}")
    async def get_model(model_id: str, caller: reader) -> dict[str, Any]:
        """One model."""
        name = door.model(model_id)
        ref = name.ref(caller)
        if ref is None:
            return _base_entry(door, name.base)
        manifest = await door.store.describe(ref)
        if manifest is None:
            raise await door.unknown(model_id)
        model = await door.model_of(manifest)
        if model.name != name.base:
            raise wrong_base(name.spelled, name.base, model.name)
        return {**_adapter_entry(model.name, manifest), "id": str(name)}

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """This process is alive."""
        return {"status": "ok"}

    @router.get("/readyz")
    async def readyz() -> dict[str, str]:
        """All engines and the store answer now, and the registry is complete."""
        await door.require_ready()
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


def _after(names: list[str], last: str | None) -> list[str]:
    return names if last is None else names[names.index(last) + 1 :]


def _base_entry(door: Door, base: str) -> dict[str, Any]:
    return {
        "id": base,
        "object": "model",
        "created": door.started_at_s,
        "owned_by": "flora-serve",
        "root": base,
        "parent": None,
    }


def _adapter_entry(base: str, manifest: AdapterManifest) -> dict[str, Any]:
    return {
        "id": str(ModelName(base, manifest.key.name)),
        "object": "model",
        "created": int(manifest.created_at_s),
        "owned_by": str(manifest.key.tenant),
        "root": str(ModelName(base, manifest.key.name, manifest.key.version)),
        "parent": base,
    }
