import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.structure import MAX_NESTING, MAX_SPEC_BYTES, NoGrammars, NoTools, require_bounded
from contracts.adapters import DEFAULT_TENANT
from contracts.errors import InvalidRequest
from contracts.generation import Structure

VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=20,
)


def depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max(map(depth, inner), default=0) if isinstance(value, dict | list) else 1


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


@given(VALUES, st.integers(0, 40))
def test_json_is_bounded_by_its_depth(value: Any, levels: int) -> None:
    for _ in range(levels):
        value = [value]
    structure = Structure("json_schema", json.dumps(value))
    if depth(value) <= MAX_NESTING:
        require_bounded(structure, "x")
    else:
        with pytest.raises(InvalidRequest, match="levels"):
            require_bounded(structure, "x")


@pytest.mark.parametrize("spec", ["{", "[" * 30_000, ""])
def test_a_schema_is_json(spec: str) -> None:
    with pytest.raises(InvalidRequest, match="JSON"):
        require_bounded(Structure("json_schema", spec), "x")


@pytest.mark.parametrize("letter", ["a", "é"])
def test_a_spec_is_bounded_by_its_bytes(letter: str) -> None:
    fits = MAX_SPEC_BYTES // len(letter.encode())
    require_bounded(Structure("regex", letter * fits), "x")
    with pytest.raises(InvalidRequest, match="bytes") as caught:
        require_bounded(Structure("regex", letter * (fits + 1)), "x")
    assert caught.value.param == "x"


async def test_a_server_without_either_says_so() -> None:
    with pytest.raises(InvalidRequest, match="no structured output"):
        await NoGrammars().require(Structure("json_object"), "response_format", DEFAULT_TENANT)
    with pytest.raises(InvalidRequest, match="no tools"):
        await NoTools().read({})
