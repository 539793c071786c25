from typing import Any

import pytest

from loadtest.control import Models, models_of, own_names


@pytest.mark.parametrize(
    ("cards", "models"),
    [
        (
            [{"id": "m"}, {"id": "m:a"}, {"id": "other"}, {"id": "other:b"}],
            Models("m", ("m:a",)),
        ),
        ([{"id": "peer", "parent": None}, {"id": "l0", "parent": "peer"}], Models("peer", ("l0",))),
        ([{"id": "alone"}], Models("alone")),
    ],
)
def test_adapters_are_told_from_base_models(cards: list[dict[str, Any]], models: Models) -> None:
    assert models_of(cards) == models


def test_a_server_without_a_base_model_needs_a_name() -> None:
    with pytest.raises(ValueError, match="--model"):
        models_of([])


def test_numbers_are_models() -> None:
    models = Models("m", ("m:a", "m:b"))
    assert [models.name_of(number) for number in (-1, 0, 1)] == ["m", "m:a", "m:b"]
    assert own_names(2) == ["loadtest-0", "loadtest-1"]
