"""One upload from its first byte to a published version. Knows nothing of HTTP or gRPC."""

import asyncio

from app.door import Door
from app.served_model import ServedModel
from contracts.adapters import ADAPTER_NAME, AdapterManifest, AdapterRef, TenantId
from contracts.errors import AdapterTooLarge, InvalidAdapter, InvalidRequest, WrongBaseModel
from flora.adapter_config import AdapterLimits
from flora.upload import compile_upload


class Upload:
    """The bytes of one upload as they come; never holds more than `limits` allow."""

    def __init__(self, limits: AdapterLimits) -> None:
        self._limits = limits
        self._config = bytearray()
        self._weights = bytearray()

    def add_config(self, chunk: bytes) -> None:
        """The next bytes of the config. Raises AdapterTooLarge, InvalidAdapter after weights."""
        if self._weights:
            raise InvalidAdapter("the config comes before the weights", "config")
        self._add(self._config, chunk, "config", self._limits.max_config_bytes)

    def add_weights(self, chunk: bytes) -> None:
        """The next bytes of the weights. Raises AdapterTooLarge."""
        self._add(self._weights, chunk, "weights", self._limits.max_file_bytes)

    def files(self) -> tuple[bytes, bytes | None]:
        """Weights, and the config where it came as a file of its own. Raises InvalidAdapter."""
        if not self._weights:
            raise InvalidAdapter("the upload has no adapter_model.safetensors", "weights")
        return bytes(self._weights), bytes(self._config) if self._config else None

    @staticmethod
    def _add(buffer: bytearray, chunk: bytes, name: str, max_bytes: int) -> None:
        if len(buffer) + len(chunk) > max_bytes:
            raise AdapterTooLarge(f"the {name} are over {max_bytes} bytes", name)
        buffer += chunk


def require_adapter_name(name: str) -> None:
    """Raises InvalidRequest."""
    if not ADAPTER_NAME.fullmatch(name):
        raise InvalidRequest(f"adapter names match {ADAPTER_NAME.pattern}", "name")


async def publish_upload(
    door: Door,
    model: ServedModel,
    tenant: TenantId,
    name: str,
    weights: bytes,
    config: bytes | None,
) -> AdapterManifest:
    """Compile an upload for `model` and publish it as the tenant's own.

    Raises InvalidAdapter, WrongBaseModel where the name is an adapter's of another model, NotReady.
    """
    layout, lora = await model.layout(), await model.lora_layout()
    await _require_own_name(door, model, tenant, name)
    async with door.uploads.compiling:
        compiled = await asyncio.to_thread(
            compile_upload, layout, lora, weights, config, door.limits.adapter
        )
    return await door.store.publish(
        tenant,
        name,
        compiled.blob,
        digest=compiled.digest,
        base_fingerprint=layout.base_fingerprint,
        rank=compiled.rank,
        num_modules=compiled.num_modules,
        created_at_s=door.clock(),
    )


async def _require_own_name(door: Door, model: ServedModel, tenant: TenantId, name: str) -> None:
    """A name has one model at a time: its users would get another's errors otherwise."""
    before = await door.store.describe(AdapterRef(tenant, name)) if door.has_several else None
    if before is None or before.base_fingerprint == model.fingerprint:
        return
    other = await door.model_of(before)
    if before.base_fingerprint == other.fingerprint:
        raise WrongBaseModel(
            f"'{name}' is an adapter of '{other.name}': delete it first, or choose another name",
            "name",
        )
