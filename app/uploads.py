"""One upload from its first byte to a published version. Knows nothing of HTTP or gRPC."""

import asyncio

from app.door import Door
from contracts.adapters import ADAPTER_NAME, AdapterManifest, TenantId
from contracts.errors import AdapterTooLarge, InvalidAdapter, InvalidRequest
from flora.adapter_config import AdapterLimits
from flora.adapter_files import read_adapter
from flora.codec import CompiledAdapter, compile_adapter
from flora.layout import AdapterLayout


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
    door: Door, tenant: TenantId, name: str, weights: bytes, config: bytes | None
) -> AdapterManifest:
    """Compile and publish an upload as the tenant's own. Raises InvalidAdapter, NotReady."""
    layout = await door.layout()
    async with door.uploads.compiling:
        compiled = await asyncio.to_thread(_compile, layout, weights, config, door.limits.adapter)
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


def _compile(
    layout: AdapterLayout, weights: bytes, config: bytes | None, limits: AdapterLimits
) -> CompiledAdapter:
    return compile_adapter(layout, read_adapter(weights, config, limits), limits)
