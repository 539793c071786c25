"""The table of gRPC statuses, and what goes beside a status."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from app import http_errors
from app.grpc_errors import (
    CODE_KEY,
    PARAM_KEY,
    PUSHBACK_KEY,
    STATUS,
    set_error,
    status_of,
    trailers_of,
)
from app.grpc_services import SERVICES
from app.quota import OverQuota
from contracts.errors import (
    InvalidRequest,
    NotReady,
    Overloaded,
    RateLimited,
    ServiceError,
    ServingError,
    Unauthorized,
)
from tests.app.test_grpc_security import SCOPES


class Context:
    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}

    def set_code(self, code: grpc.StatusCode) -> None:
        self.seen["code"] = code

    def set_details(self, details: str) -> None:
        self.seen["details"] = details

    def set_trailing_metadata(self, trailers: list[tuple[str, str]]) -> None:
        self.seen["trailers"] = dict(trailers)


def leaves(error: type[ServingError] = ServingError) -> Iterator[type[ServingError]]:
    children = error.__subclasses__()
    for child in children:
        yield from leaves(child)
    if not children:
        yield error


def test_every_error_has_its_row() -> None:
    # What the door refines has the row of what it refines.
    assert {leaf for leaf in leaves() if leaf is not OverQuota} <= set(STATUS)
    assert status_of(OverQuota("")) == status_of(RateLimited(""))
    assert set(STATUS) == set(http_errors.STATUS)


HTTP_OF = {
    grpc.StatusCode.INVALID_ARGUMENT: {400, 413},
    grpc.StatusCode.FAILED_PRECONDITION: {400},
    grpc.StatusCode.UNAUTHENTICATED: {401},
    grpc.StatusCode.PERMISSION_DENIED: {403},
    grpc.StatusCode.NOT_FOUND: {404},
    grpc.StatusCode.RESOURCE_EXHAUSTED: {429},
    grpc.StatusCode.INTERNAL: {500},
    grpc.StatusCode.DATA_LOSS: {500},
    grpc.StatusCode.UNAVAILABLE: {503},
    grpc.StatusCode.DEADLINE_EXCEEDED: {504},
}


@pytest.mark.parametrize("error", sorted(STATUS, key=str))
def test_both_tables_mean_the_same(error: type[ServingError]) -> None:
    assert http_errors.status_of(error("x")) in HTTP_OF[status_of(error("x"))]


def test_a_group_without_a_row_is_our_fault() -> None:
    for group in (ServiceError, ServingError):
        assert group not in STATUS
        assert status_of(group("x")) == grpc.StatusCode.INTERNAL


def test_the_page_has_every_code_with_its_status() -> None:
    errors: list[type[ServingError]] = [*STATUS, ServiceError, ServingError]
    assert rows("Code") == {error.code: status_of(error("")).name for error in errors}


def test_the_page_has_every_method_with_its_scope() -> None:
    served = {f"{s.full_name}/{m.name}": m.name for s in SERVICES for m in s.methods}
    assert rows("Method") == {path: SCOPES.get(name, "none") for path, name in served.items()}


def rows(first: str) -> dict[str, str]:
    """First two cells of the page's table whose head begins with `first`."""
    page = (Path(__file__).resolve().parents[2] / "docs/grpc-api.md").read_text()
    table = page.split(f"| {first} |")[1].split("\n\n")[0]
    lines = [line.split(" | ") for line in table.splitlines() if line.startswith("| `")]
    return {cells[0].strip("| `"): cells[1].strip("| `") for cells in lines}


def test_what_may_be_tried_again_says_when() -> None:
    assert dict(trailers_of(RateLimited("x", retry_after_s=2.25)))[PUSHBACK_KEY] == "2250"
    assert dict(trailers_of(RateLimited("x", retry_after_s=0.0)))[PUSHBACK_KEY] == "1"
    for error in (Overloaded("x"), NotReady("x")):
        assert dict(trailers_of(error))[PUSHBACK_KEY] == "1000"
    assert PUSHBACK_KEY not in dict(trailers_of(Unauthorized("x")))


def test_the_trailers_name_code_and_field_where_the_wire_allows_it() -> None:
    assert dict(trailers_of(InvalidRequest("x", "top_p"))) == {
        CODE_KEY: "invalid_request",
        PARAM_KEY: "top_p",
    }
    for param in ("größe", "a\nb"):
        assert PARAM_KEY not in dict(trailers_of(InvalidRequest("x", param)))


def test_a_bug_tells_nothing_of_itself(caplog: pytest.LogCaptureFixture) -> None:
    context = Context()
    set_error(context, ValueError("the prompt"))
    assert context.seen["code"] == grpc.StatusCode.INTERNAL
    assert context.seen["details"] == "Internal error."
    assert context.seen["trailers"] == {CODE_KEY: "internal_error"}
    assert "unhandled error" in caplog.text


def test_long_messages_are_cut() -> None:
    context = Context()
    set_error(context, InvalidRequest("x" * 10_000))
    assert len(context.seen["details"]) == 1024
