"""Manifests that differ only in what a test says."""

from adapter_cache.registry import Registry
from contracts.adapters import DEFAULT_TENANT, AdapterKey, AdapterManifest, TenantId
from tests.adapter_cache.adapters import digest_of, make_blob


def make_manifest(
    version: int, name: str = "ada", tenant: TenantId = DEFAULT_TENANT, seed: int | None = None
) -> AdapterManifest:
    """Version `version` of `name`; its bytes are those of `seed`, or of the version's number."""
    blob = make_blob(version if seed is None else seed)
    key = AdapterKey(tenant, name, version, digest_of(blob), len(blob))
    return AdapterManifest(key, "sha256:base", 4, 120, 1_700_000_000.125)


async def advance(registry: Registry, *manifests: AdapterManifest) -> None:
    for manifest in manifests:
        await registry.advance(manifest)
