"""The calls themselves are tested against a whole server, in `end_to_end/one_server`."""

from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from loadtest.grpc_client import code_of
from loadtest.target import TIMEOUT, UNREACHABLE


def failed(status: grpc.StatusCode, *trailers: tuple[str, str]) -> Any:
    return SimpleNamespace(code=lambda: status, trailing_metadata=lambda: trailers or None)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (failed(grpc.StatusCode.NOT_FOUND, ("flora-error-code", "no_model")), "no_model"),
        (failed(grpc.StatusCode.UNAVAILABLE, ("flora-error-code", "overloaded")), "overloaded"),
        (failed(grpc.StatusCode.UNAVAILABLE), UNREACHABLE),
        (failed(grpc.StatusCode.DEADLINE_EXCEEDED), TIMEOUT),
        (failed(grpc.StatusCode.INTERNAL, ("x", "y")), "internal"),
    ],
)
def test_a_failed_call_has_the_servers_code_or_its_own(error: Any, code: str) -> None:
    assert code_of(error) == code
