import pytest

from adapter_cache.digest import digest_of, is_digest, require_digest, verify_blob
from contracts.adapters import Digest
from contracts.errors import AdapterCorrupt

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_a_digest_names_its_bytes() -> None:
    assert digest_of(b"") == EMPTY
    assert require_digest(EMPTY) == EMPTY
    verify_blob(Digest(EMPTY), b"")


@pytest.mark.parametrize(
    "text", ["", "..", "../" + EMPTY, EMPTY.upper(), EMPTY[:-1], EMPTY + "\n", EMPTY[:-1] + "/"]
)
def test_other_text_is_no_digest(text: str) -> None:
    assert not is_digest(text)
    with pytest.raises(AdapterCorrupt):
        require_digest(text)


def test_wrong_bytes_are_refused() -> None:
    with pytest.raises(AdapterCorrupt, match=EMPTY):
        verify_blob(Digest(EMPTY), b"x")
