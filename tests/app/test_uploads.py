"""The bytes of an upload as they come, and the places that uploads take."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.upload_places import UploadPlaces
from app.uploads import Upload, require_adapter_name
from contracts.errors import AdapterTooLarge, InvalidAdapter, InvalidRequest, Overloaded
from flora.adapter_config import AdapterLimits

LIMITS = AdapterLimits(max_file_bytes=20, max_config_bytes=8)


@given(st.lists(st.binary(max_size=6), max_size=3), st.lists(st.binary(max_size=9), max_size=4))
def test_chunks_are_joined_or_refused_at_the_first_byte_too_many(
    config: list[bytes], weights: list[bytes]
) -> None:
    upload = Upload(LIMITS)
    too_large = len(b"".join(config)) > 8 or len(b"".join(weights)) > 20
    try:
        for chunk in config:
            upload.add_config(chunk)
        for chunk in weights:
            upload.add_weights(chunk)
        found = upload.files()
    except AdapterTooLarge:
        assert too_large
    except InvalidAdapter:
        assert not b"".join(weights)
    else:
        assert not too_large
        assert found == (b"".join(weights), b"".join(config) or None)


def test_the_config_comes_first() -> None:
    upload = Upload(LIMITS)
    upload.add_weights(b"x")
    with pytest.raises(InvalidAdapter):
        upload.add_config(b"x")


@pytest.mark.parametrize("name", ["", ".", "a/b", "../a", "x" * 97, "a\n", "ä", "-a", "a b"])
def test_names_that_cannot_be_are_refused(name: str) -> None:
    with pytest.raises(InvalidRequest):
        require_adapter_name(name)


async def test_places_are_bounded_and_given_back() -> None:
    places = UploadPlaces(1)
    taken = [places.take() for _ in range(16)]
    for place in taken:
        place.__enter__()
    with pytest.raises(Overloaded), places.take():
        pytest.fail("there was no place")
    taken[0].__exit__(None, None, None)
    with pytest.raises(InvalidAdapter), places.take():
        raise InvalidAdapter("x")
    assert places.num_taken == 15
    assert repr(places) == "UploadPlaces(taken=15 of 16)"
