from typing import Any

import pytest

from tests.app.bodies import post


@pytest.mark.parametrize(
    ("change", "status", "code", "param"),
    [
        ({}, 400, "invalid_request", "model"),
        ({"input": ["a", "b"]}, 400, "invalid_request", "model"),
        ({"input": [1, 2]}, 400, "invalid_request", "model"),
        ({"model": "other"}, 404, "model_not_found", "model"),
        ({"colour": 1}, 400, "invalid_request", "colour"),
    ],
)
async def test_embeddings_are_refused_with_the_reason(
    change: dict[str, Any], status: int, code: str, param: str
) -> None:
    answer = await post({"model": "tiny", "input": "a", **change}, "/v1/embeddings")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param)


async def test_the_reason_names_the_model() -> None:
    answer = await post({"model": "tiny", "input": "a"}, "/v1/embeddings")
    assert "'tiny' generates text" in answer.json()["error"]["message"]
