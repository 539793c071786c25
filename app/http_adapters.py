"""PUT, GET and DELETE /v1/adapters/{name}, and GET /v1/adapters."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from app.adapter_actions import delete, list_page, show
from app.adapter_entry import adapter_entry, entry_of, version_entries
from app.adapter_shares import readers
from app.door import Door
from app.http_adapter_shares import readers_entry
from app.http_auth import requires
from app.http_body import bounded_chunks, read_body
from app.http_models import PageLimit, list_object
from app.served_model import ServedModel
from app.uploads import publish_upload, require_adapter_name
from contracts.access import Caller, Scope
from contracts.adapters import TenantId
from contracts.errors import AdapterTooLarge, InvalidAdapter, InvalidRequest
from flora.adapter_config import AdapterLimits

_ENVELOPE_BYTES = 64 * 1024
_RAW_TYPES = ("", "application/octet-stream", "application/x-safetensors")


def adapter_routes(door: Door) -> APIRouter:
    """Publishing and listing adapters of `door`."""
    router = APIRouter(prefix="/v1/adapters")
    reader = Annotated[Caller, Depends(requires(door, Scope.ADAPTERS_READ))]
    writer = Annotated[Caller, Depends(requires(door, Scope.ADAPTERS_WRITE))]

    @router.put("/{name}")
    async def publish(
        name: str, request: Request, caller: writer, model: str | None = None
    ) -> dict[str, Any]:
        """Validate, compile and publish an upload; the answer names the new version.

        `model` is the base model that the adapter is for, needed where there are several.
        """
        require_adapter_name(name)
        served = door.base(model)
        with door.uploads.take():
            return await _publish(door, served, caller.tenant, name, request)

    @router.get("")
    async def list_adapters(
        caller: reader, limit: PageLimit = 100, after: str = ""
    ) -> dict[str, Any]:
        """Current versions in order of name; `after` is the last name seen."""
        manifests, more = await list_page(door, caller, after, limit)
        entries = [await entry_of(door, manifest) for manifest in manifests]
        return list_object(entries, bool(more), "name")

    @router.get("/{name}")
    async def show_adapter(name: str, caller: reader) -> dict[str, Any]:
        """The current version, all kept ones, and who else may use them."""
        kept = await show(door, caller, name)
        base = (await door.model_of(kept.manifests[-1])).name
        current = adapter_entry(base, kept.manifests[-1])
        versions = version_entries(base, kept.manifests, kept.pins)
        shares = readers_entry(await readers(door, caller, name))
        return current | shares | {"versions": versions}

    @router.delete("/{name}")
    async def delete_adapter(name: str, caller: writer) -> dict[str, Any]:
        """Forget the adapter with all its versions."""
        await delete(door, caller, name)
        return {"id": name, "object": "adapter.deleted", "deleted": True}

    return router


async def _publish(
    door: Door, model: ServedModel, tenant: TenantId, name: str, request: Request
) -> dict[str, Any]:
    await model.layout()  # Not ready is said before anything is read.
    try:
        weights, config = await _read_upload(request, door.limits.adapter)
    except HTTPException as error:
        if error.status_code != 413:
            raise
        raise AdapterTooLarge(str(error.detail)) from None
    manifest = await publish_upload(door, model, tenant, name, weights, config)
    return adapter_entry(model.name, manifest)


async def _read_upload(request: Request, limits: AdapterLimits) -> tuple[bytes, bytes | None]:
    """Weights and, where it came as a file of its own, the config."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in _RAW_TYPES:
        return await read_body(request, limits.max_file_bytes), None
    if kind != "multipart/form-data":
        raise InvalidRequest(
            "send multipart/form-data with adapter_config.json and adapter_model.safetensors, "
            "or application/octet-stream with one .safetensors file",
            "content-type",
        )
    max_bytes = limits.max_file_bytes + limits.max_config_bytes + _ENVELOPE_BYTES
    return await _read_multipart(request, max_bytes)


async def _read_multipart(request: Request, max_bytes: int) -> tuple[bytes, bytes | None]:
    stream = bounded_chunks(request, max_bytes)
    parser = MultiPartParser(request.headers, stream, max_files=2, max_fields=0)
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError) as error:
        raise InvalidAdapter(f"malformed multipart body: {error}") from error
    found: dict[str, bytes] = {}
    try:
        for part in [part for _, part in form.multi_items() if isinstance(part, UploadFile)]:
            # Some clients send a path, and some send no useful name for the field.
            found[_role(part.filename or "")] = await part.read()
    finally:
        await form.close()
        # A form that ends within a file does not have that file.
        for file in parser._files_to_close_on_error:
            file.close()
    if "weights" not in found:
        raise InvalidAdapter("the upload has no adapter_model.safetensors")
    return found["weights"], found.get("config")


def _role(filename: str) -> str:
    if filename.endswith(".json"):
        return "config"
    if filename.endswith(".safetensors"):
        return "weights"
    raise InvalidAdapter(
        f"file {json.dumps(filename[:100])}: expected adapter_config.json and "
        "adapter_model.safetensors; other formats, pickle among them, are not read"
    )
