"""The HTTP reference, from the application's OpenAPI document."""

from collections.abc import Iterable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any, cast

from app.door import Door
from app.door_metrics import DoorMetrics
from app.http_api import create_app
from docs.hooks.markdown_table import table

Json = Mapping[str, Any]

_INTRODUCTION = """# HTTP reference

Made from the OpenAPI document that a server has at `GET /openapi.json`. How the parts work together
is in the [HTTP API](../http-api.md), with all error codes."""

_METHODS = ("get", "post", "put", "delete")


def openapi() -> Json:
    """The document. The routes do not depend on the door behind them."""
    made: Json = create_app(cast(Door, SimpleNamespace(metrics=DoorMetrics()))).openapi()
    return made


def http_page(document: Json) -> str:
    """The page: every route, then every schema that a body or an answer has."""
    parts = [_INTRODUCTION]
    for path, methods in document["paths"].items():
        for method in (name for name in _METHODS if name in methods):
            parts += _route(f"{method.upper()} {path}", methods[method])
    parts.append("# Schemas")
    for name, schema in sorted(document["components"]["schemas"].items()):
        parts += [f"### {name}", schema.get("description", ""), *_schema(schema)]
    return "\n\n".join([*(part for part in parts if part), ""])


def _route(title: str, operation: Json) -> Iterator[str]:
    yield f"## {title}"
    yield operation.get("description") or ""
    needs = [scopes for need in operation.get("security", ()) for scopes in need.values()]
    yield f"Scope: `{needs[0][0]}`." if needs and needs[0] else "No scope."
    parameters = operation.get("parameters", ())
    rows = (
        (f"`{p['name']}`", p["in"], _kind(p["schema"]), p.get("description", ""))
        for p in parameters
    )
    yield table(("Parameter", "In", "Type", "Meaning"), rows)
    body = operation.get("requestBody", {}).get("content", {})
    yield table(("Body", "Type"), _contents(body))
    yield table(("Status", "Answer", "Meaning"), _answers(operation["responses"]))


def _contents(content: Json) -> Iterator[tuple[str, str]]:
    for media, described in content.items():
        yield f"`{media}`", _kind(described["schema"])


def _answers(responses: Json) -> Iterator[tuple[str, str, str]]:
    for status, response in sorted(responses.items()):
        kinds = [_kind(each["schema"]) for each in response.get("content", {}).values()]
        yield status, " or ".join(dict.fromkeys(kinds)), response.get("description", "")


def _schema(schema: Json) -> Iterable[str]:
    required = schema.get("required", ())
    rows = (
        (
            f"`{name}`",
            _kind(field),
            "required" if name in required else _default(field),
            field.get("description", ""),
        )
        for name, field in schema.get("properties", {}).items()
    )
    made = table(("Field", "Type", "Default", "Meaning"), rows)
    return [made or _kind(schema)]


def _default(field: Json) -> str:
    return f"`{field['default']!r}`" if field.get("default") is not None else ""


def _kind(schema: Json) -> str:
    """A schema in a few words; named ones as links."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return " or ".join(dict.fromkeys(_kind(each) for each in schema[word]))
    if "allOf" in schema:
        return " and ".join(_kind(each) for each in schema["allOf"])
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return ", ".join(f"`{value}`" for value in values)
    return f"{_container(schema)}{_bounds(schema)}"


def _container(schema: Json) -> str:
    kind = schema.get("type", "anything")
    if kind == "array" and "items" in schema:
        return f"list of {_kind(schema['items'])}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_kind(schema['additionalProperties'])}"
    return schema.get("description", kind) if schema.get("format") == "binary" else str(kind)


_BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "over {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "under {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {}",
    "maxItems": "at most {}",
}


def _bounds(schema: Json) -> str:
    told = [text.format(schema[name]) for name, text in _BOUNDS.items() if name in schema]
    return f" ({', '.join(told)})" if told else ""
