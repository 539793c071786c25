"""The service flora.v1.Adapters over a door."""

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

from app import adapter_actions
from app.adapter_actions import MAX_VERSION
from app.door import Door
from app.grpc_answers import adapter_of
from app.protos.flora.v1 import flora_pb2 as pb
from app.served_model import ServedModel
from app.uploads import Upload, publish_upload, require_adapter_name
from contracts.access import Caller
from contracts.adapters import AdapterManifest
from contracts.errors import DeadlineExceeded, InvalidRequest

MAX_PAGE = 1000
DEFAULT_PAGE = 100


class VersionRequest(Protocol):
    """What names one version of an adapter."""

    name: str
    version: int

    def HasField(self, field: str) -> bool: ...


async def publish(
    door: Door, caller: Caller, parts: AsyncIterator[pb.PublishAdapterRequest]
) -> pb.PublishAdapterResponse:
    """Header, config, weights. Raises InvalidRequest, InvalidAdapter, Overloaded, NotReady."""
    with door.uploads.take():
        try:
            async with asyncio.timeout(door.limits.request_timeout_s):
                name, model, upload = await _received(door, parts)
        except TimeoutError:
            raise DeadlineExceeded("The upload took too long.") from None
        weights, config = upload.files()
        del upload
        manifest = await publish_upload(door, model, caller.tenant, name, weights, config)
    return pb.PublishAdapterResponse(adapter=adapter_of(model.name, manifest))


async def list_adapters(
    door: Door, caller: Caller, request: pb.ListAdaptersRequest
) -> pb.ListAdaptersResponse:
    """One page."""
    if request.page_size > MAX_PAGE:
        raise InvalidRequest(f"'page_size' is at most {MAX_PAGE}", "page_size")
    limit = request.page_size or DEFAULT_PAGE
    try:
        page, token = await adapter_actions.list_page(door, caller, request.page_token, limit)
    except InvalidRequest as error:
        raise InvalidRequest("'page_token' is none of this server's", "page_token") from error
    adapters = [await _adapter(door, manifest) for manifest in page]
    return pb.ListAdaptersResponse(adapters=adapters, next_page_token=token)


async def get_adapter(
    door: Door, caller: Caller, request: pb.GetAdapterRequest
) -> pb.GetAdapterResponse:
    """One adapter with its versions."""
    kept = await adapter_actions.show(door, caller, request.name)
    versions = [
        pb.KeptVersion(
            adapter=await _adapter(door, manifest),
            pinned=manifest.key.version in kept.pins,
        )
        for manifest in kept.manifests
    ]
    return pb.GetAdapterResponse(adapter=versions[-1].adapter, versions=versions)


async def rollback_adapter(
    door: Door, caller: Caller, request: pb.RollbackAdapterRequest
) -> pb.RollbackAdapterResponse:
    """An older version again."""
    version = _version(request)
    manifest = await adapter_actions.rollback(door, caller, request.name, version)
    return pb.RollbackAdapterResponse(adapter=await _adapter(door, manifest))


async def delete_adapter(
    door: Door, caller: Caller, request: pb.DeleteAdapterRequest
) -> pb.DeleteAdapterResponse:
    """All versions gone."""
    await adapter_actions.delete(door, caller, request.name)
    return pb.DeleteAdapterResponse()


async def prefetch_adapter(
    door: Door, caller: Caller, request: pb.PrefetchAdapterRequest
) -> pb.PrefetchAdapterResponse:
    """The bytes brought near."""
    version = _version(request)
    manifest = await adapter_actions.prefetch(door, caller, request.name, version)
    return pb.PrefetchAdapterResponse(adapter=await _adapter(door, manifest))


async def pin_adapter(
    door: Door, caller: Caller, request: pb.PinAdapterRequest
) -> pb.PinAdapterResponse:
    """A version kept."""
    manifest = await adapter_actions.pin(door, caller, request.name, _version(request))
    return pb.PinAdapterResponse(adapter=await _adapter(door, manifest))


async def unpin_adapter(
    door: Door, caller: Caller, request: pb.UnpinAdapterRequest
) -> pb.UnpinAdapterResponse:
    """A version let go."""
    manifest = await adapter_actions.unpin(door, caller, request.name, _version(request))
    return pb.UnpinAdapterResponse(adapter=await _adapter(door, manifest))


async def _adapter(door: Door, manifest: AdapterManifest) -> pb.Adapter:
    return adapter_of((await door.model_of(manifest)).name, manifest)


async def _received(
    door: Door, parts: AsyncIterator[pb.PublishAdapterRequest]
) -> tuple[str, ServedModel, Upload]:
    """The adapter's name, its base model and its bytes, once the client has sent all."""
    name, model = "", None
    upload = Upload(door.limits.adapter)
    async for part in parts:
        kind = part.WhichOneof("part")
        if (kind == "header") != (model is None):
            raise InvalidRequest("an upload begins with its one 'header'", "header")
        if kind == "header":
            name = part.header.name
            require_adapter_name(name)
            model = door.base(part.header.model or None)
            # Not ready is said before the files are read.
            await model.layout()
        elif kind == "config":
            upload.add_config(part.config)
        elif kind == "weights":
            upload.add_weights(part.weights)
        else:
            raise InvalidRequest("a part has 'header', 'config' or 'weights'", "part")
    if model is None:
        raise InvalidRequest("an upload begins with its one 'header'", "header")
    # Ray Serve ends the stream of a client that broke off as if it had come to its end.
    is_cancelled = getattr(parts, "is_cancelled", None)
    if is_cancelled is not None and is_cancelled():
        raise InvalidRequest("the upload was broken off")
    return name, model, upload


def _version(request: VersionRequest) -> int | None:
    if not request.HasField("version"):
        return None
    if not 1 <= request.version <= MAX_VERSION:
        raise InvalidRequest(f"'version' is 1 to {MAX_VERSION}", "version")
    return request.version
