"""Whatever is uploaded is an adapter or a clear refusal, in bounded time."""

from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import CallerError
from flora.adapter_files import AdapterFiles, read_adapter
from flora.codec import compile_adapter
from tests.flora.adapters import LIMITS
from tests.flora.hostile_files import GOOD_CONFIG, GOOD_WEIGHTS, configs, weights
from tests.flora.layouts import make_layout

LAYOUT = make_layout()


def outcome(weights: bytes, config: bytes | None) -> AdapterFiles | CallerError:
    """What a publish makes of it; anything but an adapter and a caller's error breaks the test."""
    try:
        files = read_adapter(weights, config, LIMITS)
        assert len(compile_adapter(LAYOUT, files, LIMITS).blob) <= LIMITS.max_row_bytes
    except CallerError as error:
        return error
    return files


@given(weights(), st.none() | configs())
def test_any_upload_is_an_adapter_or_refused(weights: bytes, config: bytes | None) -> None:
    found = outcome(weights, config)
    if isinstance(found, CallerError):
        assert 0 < len(str(found)) < 1000


@given(configs())
def test_good_weights_do_not_excuse_a_bad_config(config: bytes) -> None:
    found = outcome(GOOD_WEIGHTS, config)
    assert isinstance(found, CallerError) or found.config.rank >= 1


def test_the_good_one_is_good() -> None:
    assert isinstance(outcome(GOOD_WEIGHTS, GOOD_CONFIG), AdapterFiles)
