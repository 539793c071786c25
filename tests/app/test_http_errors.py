"""The error table is complete, and every failure has the one body."""

from collections.abc import Iterator

import pytest

from app.http_errors import STATUS, error_body, error_response, status_of
from contracts.errors import CallerError, Overloaded, ServiceError, ServingError, UnknownModel
from tests.app.parts import make_client, make_door


def leaves(error: type[ServingError] = ServingError) -> Iterator[type[ServingError]]:
    children = [c for c in error.__subclasses__() if c.__module__ == "contracts.errors"]
    if not children:
        yield error
    for child in children:
        yield from leaves(child)


@pytest.mark.parametrize("error", list(leaves()))
def test_every_leaf_has_a_row_that_fits_its_fault(error: type[ServingError]) -> None:
    assert error in STATUS
    assert STATUS[error] // 100 == (4 if issubclass(error, CallerError) else 5)
    assert issubclass(error, CallerError | ServiceError)


def test_an_error_without_a_row_has_its_ancestors() -> None:
    class Newer(UnknownModel):
        pass

    assert status_of(Newer("x")) == 404
    assert status_of(ServingError("x")) == 500


def test_the_body_is_openais() -> None:
    assert error_body(UnknownModel("gone", "model")) == {
        "error": {
            "message": "gone",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }
    }


def test_503_says_when_to_come_back() -> None:
    assert error_response(Overloaded("full")).headers["retry-after"] == "1"
    assert "retry-after" not in error_response(UnknownModel("x")).headers


async def test_unknown_paths_and_methods_have_the_body_too() -> None:
    async with make_client(make_door()) as client:
        lost = await client.get("/v2/nothing")
        wrong = await client.get("/v1/completions")
    assert (lost.status_code, lost.json()["error"]["code"]) == (404, "not_found")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")


async def test_a_bug_is_500_and_keeps_its_secrets() -> None:
    door = make_door()

    def broken() -> str:
        raise RuntimeError("password")

    door.new_id = broken
    async with make_client(door) as client:
        body = {"model": "tiny", "prompt": "x"}
        response = await client.post("/v1/completions", json=body)
    assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")
    assert "password" not in response.text
