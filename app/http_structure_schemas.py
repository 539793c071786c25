"""How a request bounds the form of its answer, and its reading into a `Structure`."""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from contracts.generation import Structure

_KINDS = ("json_schema", "regex", "choice", "grammar", "json_object")


class Wire(BaseModel):
    """Strict, frozen, closed: the base of every body."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class JsonSchema(Wire):
    """`response_format.json_schema`. The schema is kept to, whatever `strict` says."""

    name: Annotated[str, Field(min_length=1, max_length=256)]
    description: str | None = None
    json_schema: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None


class ResponseFormat(Wire):
    """`response_format`."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> Self:
        if self.type == "json_schema" and (
            self.json_schema is None or self.json_schema.json_schema is None
        ):
            raise ValueError("'response_format' json_schema needs 'json_schema.schema'")
        return self


class StructuredOutputs(Wire):
    """`structured_outputs`, vLLM's extension: one of its kinds."""

    json_schema: str | dict[str, Any] | None = Field(None, alias="json")
    regex: Annotated[str, Field(min_length=1)] | None = None
    choice: (
        Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=1024)]
        | None
    ) = None
    grammar: Annotated[str, Field(min_length=1)] | None = None
    json_object: Literal[True] | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if sum(getattr(self, kind) is not None for kind in _KINDS) != 1:
            raise ValueError(
                "'structured_outputs' takes exactly one of 'json', 'regex', 'choice', 'grammar' "
                "and 'json_object'"
            )
        return self


def structure_of(
    wanted: ResponseFormat | None, extension: StructuredOutputs | None
) -> tuple[Structure, str] | None:
    """The bound, and the name of the field that asks for it. Raises ValueError for two bounds."""
    formatted = None if wanted is None else _of_format(wanted)
    if formatted and extension:
        raise ValueError("'response_format' and 'structured_outputs' cannot be used together")
    if formatted:
        return formatted, "response_format"
    return (_of_extension(extension), "structured_outputs") if extension else None


def _of_format(wanted: ResponseFormat) -> Structure | None:
    if wanted.type == "json_object":
        return Structure("json_object")
    if wanted.type == "json_schema" and wanted.json_schema is not None:
        return Structure("json_schema", json.dumps(wanted.json_schema.json_schema))
    return None


def _of_extension(wanted: StructuredOutputs) -> Structure:
    if wanted.json_schema is not None:
        given = wanted.json_schema
        return Structure("json_schema", given if isinstance(given, str) else json.dumps(given))
    if wanted.choice is not None:
        return Structure("choice", json.dumps(wanted.choice))
    if wanted.regex is not None:
        return Structure("regex", wanted.regex)
    if wanted.grammar is not None:
        return Structure("grammar", wanted.grammar)
    return Structure("json_object")
