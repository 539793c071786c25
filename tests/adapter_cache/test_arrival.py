"""A blob in pieces is the blob."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapter_cache.arrival import Arrival
from adapter_cache.digest import digest_of
from contracts.errors import AdapterCorrupt


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(pieces=st.lists(st.binary(max_size=50)))
def test_pieces_are_the_blob_that_they_make(tmp_path: Path, pieces: list[bytes]) -> None:
    arrival, blob = Arrival(pieces), b"".join(pieces)
    assert (arrival.joined(), arrival.size_bytes) == (blob, len(blob))
    arrival.verify(digest_of(blob))
    arrival.verify(digest_of(blob))
    with pytest.raises(AdapterCorrupt):
        arrival.verify(digest_of(blob + b"more"))
    (tmp_path / "blob").write_bytes(b"what was there before" * 10)
    arrival.write(tmp_path / "blob")
    assert (tmp_path / "blob").read_bytes() == blob
    assert repr(arrival) == f"<Arrival {len(blob)} bytes in {len(pieces)} pieces>"
