"""What the API says of one version of an adapter. Knows nothing of HTTP."""

from collections.abc import Collection, Sequence
from typing import Any

from app.door import Door
from app.model_name import ModelName
from contracts.adapters import AdapterManifest


def adapter_entry(base_model: str, manifest: AdapterManifest) -> dict[str, Any]:
    """The `adapter` object of the API."""
    key = manifest.key
    return {
        "id": str(ModelName(base_model, key.name)),
        "object": "adapter",
        "name": key.name,
        "version": key.version,
        "digest": key.digest,
        "size_bytes": key.size_bytes,
        "rank": manifest.rank,
        "num_modules": manifest.num_modules,
        "base_fingerprint": manifest.base_fingerprint,
        "created": int(manifest.created_at_s),
    }


async def entry_of(door: Door, manifest: AdapterManifest) -> dict[str, Any]:
    """The `adapter` object, named by the model that it is made for. Raises NotReady."""
    return adapter_entry((await door.model_of(manifest)).name, manifest)


def version_entries(
    base_model: str, manifests: Sequence[AdapterManifest], pins: Collection[int]
) -> list[dict[str, Any]]:
    """All kept versions, oldest first, the last one current; each says whether it is pinned."""
    newest = manifests[-1].key.version if manifests else 0
    return [
        {
            **adapter_entry(base_model, manifest),
            "current": manifest.key.version == newest,
            "pinned": manifest.key.version in pins,
        }
        for manifest in manifests
    ]
