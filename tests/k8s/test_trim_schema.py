"""Trimming takes prose out of a schema, and nothing that it says."""

import json
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft4Validator

from tests.k8s.trim_schema import SCHEMAS, trim, without_prose
from tests.k8s.validation import strict

NAMES = st.sampled_from(["description", "properties", "type", "name"])
VALUES = st.recursive(
    st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


def objects_of(fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "description": "prose", "properties": fields}


SHAPES = st.recursive(
    st.sampled_from(
        [{"type": "integer", "description": "prose"}, {"type": "string", "description": "prose"}]
    ),
    lambda inner: st.dictionaries(NAMES, inner, max_size=3).map(objects_of),
    max_leaves=6,
)


@given(SHAPES, VALUES)
def test_a_trimmed_schema_takes_and_refuses_the_same(shape: dict[str, Any], value: Any) -> None:
    trimmed = without_prose(shape)
    assert "prose" not in json.dumps(trimmed)
    assert Draft4Validator(trimmed).is_valid(value) == Draft4Validator(shape).is_valid(value)


@given(SHAPES, VALUES)
def test_a_strict_schema_takes_no_more_and_no_unknown_name(
    shape: dict[str, Any], value: Any
) -> None:
    tightened = Draft4Validator(strict(shape))
    if tightened.is_valid(value):
        assert Draft4Validator(shape).is_valid(value)
    if shape["type"] == "object":
        assert not tightened.is_valid({"unknown": 1})


def test_a_definition_is_trimmed_to_one_version(tmp_path: Path) -> None:
    def version(name: str) -> dict[str, Any]:
        fields = {name: {"type": "string", "description": "prose"}}
        return {"name": name, "schema": {"openAPIV3Schema": objects_of(fields)}}

    spec = {
        "group": "example.org",
        "names": {"kind": "Thing"},
        "versions": [version("v1"), version("v2")],
    }
    (tmp_path / "crd.yaml").write_text(yaml.safe_dump({"spec": spec}))
    assert trim(tmp_path / "crd.yaml", "v2") == {
        "apiVersion": "example.org/v2",
        "kind": "Thing",
        "schema": {"type": "object", "properties": {"v2": {"type": "string"}}},
    }


def test_each_schema_is_named_after_its_kind_and_its_origin_is_told() -> None:
    told = (SCHEMAS / "README.md").read_text(encoding="utf-8")
    for path in SCHEMAS.glob("*.json"):
        assert json.loads(path.read_text())["kind"] == path.stem
        assert f"`{path.name}`" in told
