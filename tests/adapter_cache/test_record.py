import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_cache.record import decode_key, decode_record, encode_record
from contracts.adapters import DEFAULT_TENANT, AdapterKey, AdapterManifest, Digest
from contracts.errors import AdapterCorrupt

counts = st.integers(0, 2**40)
keys = st.builds(
    AdapterKey,
    tenant=st.just(DEFAULT_TENANT),
    name=st.just("ada"),
    version=counts,
    digest=st.text("0123456789abcdef", min_size=64, max_size=64).map(Digest),
    size_bytes=counts,
)
manifests = st.builds(
    AdapterManifest,
    key=keys,
    base_fingerprint=st.text(),
    rank=counts,
    num_modules=counts,
    created_at_s=st.floats(allow_nan=False),
)


@given(manifests)
def test_a_record_gives_back_its_manifest(manifest: AdapterManifest) -> None:
    record = encode_record(manifest)
    assert decode_record(DEFAULT_TENANT, "ada", record) == manifest
    assert decode_key(DEFAULT_TENANT, "ada", record) == manifest.key


@pytest.mark.parametrize("record", ["", "1:ab:3", "x:ab:3:1:1:1.0:f", "1:ab:3:x:1:1.0:f"])
def test_a_damaged_record_is_named(record: str) -> None:
    with pytest.raises(AdapterCorrupt, match="'ada'"):
        decode_record(DEFAULT_TENANT, "ada", record)
