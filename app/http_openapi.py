"""The OpenAPI document: what FastAPI cannot see of routes that read and write raw bytes.

One row a route: without it there is no document.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app import http_answer_schemas as answers
from app import http_audio_schemas as audio
from app import http_watch_schemas as watch
from app.http_adapter_versions import RollbackBody
from app.http_chat_schemas import ChatBody
from app.http_embeddings import EmbeddingBody
from app.http_limits import TIMEOUT_HEADER
from app.http_schemas import CompletionBody
from app.http_tokenize import DetokenizeBody, TokenizeBody

_REF = "#/components/schemas/{model}"
_VERSION = "1"
_JSON = "application/json"
_EVENTS = "text/event-stream"
_FORM = "multipart/form-data"

Model = type[BaseModel]


@dataclass(frozen=True, slots=True)
class Shape:
    """One route's bodies. `answer` None is no JSON; `chunk` is one event of a stream. `form` is a
    multipart body with a file. `is_text`: the answer may be text, too.
    """

    answer: Model | None = None
    body: Model | None = None
    chunk: Model | None = None
    example: Mapping[str, Any] | None = None
    errors: tuple[int, ...] = ()
    body_required: bool = True
    form: Model | None = None
    is_text: bool = False


_MESSAGES = [{"role": "user", "content": "How do I boil an egg?"}]
_MODEL = "smollm2-135m-instruct:pirate"
_GENERATION = (400, 401, 403, 404, 413, 429, 500, 503, 504)
_READING = (400, 401, 403, 404, 413, 500, 503)
_CHANGING = (400, 401, 403, 404, 413, 500, 503)

_CHAT = {"model": _MODEL, "messages": _MESSAGES, "max_tokens": 64, "temperature": 0}
_TEXT = {"model": _MODEL, "prompt": "Once upon a time", "max_tokens": 16}
_EMBED = {"model": _MODEL, "input": "an egg"}
_ADAPTER = "/v1/adapters/{name}"

SHAPES: Mapping[str, Shape] = {
    "POST /v1/chat/completions": Shape(
        answers.ChatCompletion, ChatBody, answers.ChatCompletionChunk, _CHAT, _GENERATION
    ),
    "POST /v1/completions": Shape(
        answers.Completion, CompletionBody, answers.Completion, _TEXT, _GENERATION
    ),
    "POST /v1/tokenize": Shape(
        answers.Tokens, TokenizeBody, None, {"prompt": "an egg"}, _GENERATION
    ),
    "POST /v1/detokenize": Shape(
        answers.DetokenizedText, DetokenizeBody, None, {"tokens": [1, 2, 3]}, _GENERATION
    ),
    "POST /v1/embeddings": Shape(None, EmbeddingBody, None, _EMBED, _GENERATION),
    "POST /v1/audio/transcriptions": Shape(
        audio.Transcription,
        None,
        audio.TranscriptionEvent,
        None,
        _GENERATION,
        form=audio.TranscriptionForm,
        is_text=True,
    ),
    "GET /v1/models": Shape(answers.ModelPage, errors=_READING),
    "GET /v1/models/{model_id}": Shape(answers.ModelEntry, errors=_READING),
    "GET /healthz": Shape(answers.Status),
    "GET /readyz": Shape(answers.Status, errors=(500, 503)),
    "GET /metrics": Shape(errors=(401, 403, 500, 503)),
    "GET /v1/replicas": Shape(watch.ReplicaPage, errors=(401, 403, 500, 503)),
    "GET /v1/usage": Shape(watch.UsageAnswer, errors=(400, 401, 403, 500, 503)),
    "GET /v1/adapters": Shape(answers.AdapterPage, errors=_READING),
    f"GET {_ADAPTER}": Shape(answers.AdapterDetails, errors=_READING),
    f"PUT {_ADAPTER}": Shape(answers.AdapterEntry, errors=_CHANGING),
    f"DELETE {_ADAPTER}": Shape(answers.DeletedAdapter, errors=_CHANGING),
    f"POST {_ADAPTER}/rollback": Shape(
        answers.AdapterEntry,
        RollbackBody,
        None,
        {"version": 3},
        _CHANGING,
        body_required=False,
    ),
    f"POST {_ADAPTER}/prefetch": Shape(answers.AdapterEntry, errors=_CHANGING),
    f"PUT {_ADAPTER}/pin": Shape(answers.PinnedAdapter, errors=_CHANGING),
    f"DELETE {_ADAPTER}/pin": Shape(answers.PinnedAdapter, errors=_CHANGING),
    f"PUT {_ADAPTER}/shares/{{tenant}}": Shape(answers.Readers, errors=_CHANGING),
    f"DELETE {_ADAPTER}/shares/{{tenant}}": Shape(answers.Readers, errors=_CHANGING),
    f"PUT {_ADAPTER}/public": Shape(answers.Readers, errors=_CHANGING),
    f"DELETE {_ADAPTER}/public": Shape(answers.Readers, errors=_CHANGING),
}

MEANINGS: Mapping[int, str] = {
    400: "The request is at fault; `param` names the field.",
    401: "No valid API key.",
    403: "The key lacks the scope.",
    404: "No such model or adapter, or not yours.",
    413: "The body is over the limit.",
    429: "Over a quota of the key.",
    500: "A fault of the server.",
    503: "Not now: try again.",
    504: "Not done in the time allowed.",
}


def install_openapi(app: FastAPI) -> None:
    """Give `app` the whole document; it is made when it is first asked for."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = describe(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's own way to extend it


def describe(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document with the bodies, answers and errors of `SHAPES`. Raises KeyError."""
    made = get_openapi(title=app.title, version=_VERSION, routes=app.routes)
    for path, methods in made["paths"].items():
        for method, operation in methods.items():
            _fill(operation, SHAPES[f"{method.upper()} {path}"])
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas.update(_schemas())
    return made


def _fill(operation: dict[str, Any], shape: Shape) -> None:
    if shape.body is not None:
        content = {"schema": _ref(shape.body), "example": shape.example}
        operation["requestBody"] = {
            "required": shape.body_required,
            "content": {_JSON: content},
        }
    elif shape.form is not None:
        content = {"schema": _ref(shape.form)}
        operation["requestBody"] = {"required": True, "content": {_FORM: content}}
    elif operation["operationId"].startswith("publish"):
        operation["requestBody"] = _UPLOAD
    if shape.chunk is not None:
        operation.setdefault("parameters", []).append(_TIMEOUT)
    responses = operation["responses"]
    responses.pop("422", None)
    success = next(status for status in responses if status.startswith("2"))
    if shape.answer is None and shape.body is not None:
        del responses[success]
    else:
        responses[success] = {**responses[success], "content": _content(shape)}
    for status in shape.errors:
        responses[str(status)] = _error(status)


def _content(shape: Shape) -> dict[str, Any]:
    if shape.answer is None:
        return _TEXT_CONTENT
    content: dict[str, Any] = {_JSON: {"schema": _ref(shape.answer)}}
    content |= _TEXT_CONTENT if shape.is_text else {}
    if shape.chunk is not None:
        name = shape.chunk.__name__
        content[_EVENTS] = {
            "schema": {
                "type": "string",
                "description": f"With `stream`: events of `data: ` and a {name}, then [DONE].",
            }
        }
    return content


def _error(status: int) -> dict[str, Any]:
    made: dict[str, Any] = {
        "description": MEANINGS[status],
        "content": {_JSON: {"schema": _ref(answers.ErrorAnswer)}},
    }
    if status in (429, 503):
        made["headers"] = {
            "Retry-After": {"schema": {"type": "integer"}, "description": "In seconds."}
        }
    return made


def _ref(model: Model) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}


def _schemas() -> dict[str, Any]:
    asked = {m for shape in SHAPES.values() for m in (shape.body, shape.form) if m}
    told = {m for shape in SHAPES.values() for m in (shape.answer, shape.chunk) if m}
    models = sorted(asked | told | {answers.ErrorAnswer, answers.Upload}, key=lambda m: m.__name__)
    mode: Literal["validation"] = "validation"
    given: list[tuple[Any, Literal["validation"]]] = [(model, mode) for model in models]
    _, made = models_json_schema(given, ref_template=_REF, by_alias=True)
    found: dict[str, Any] = made["$defs"]
    return found


_TIMEOUT: Mapping[str, Any] = {
    "name": TIMEOUT_HEADER,
    "in": "header",
    "required": False,
    "schema": {"type": "number", "exclusiveMinimum": 0},
    "description": "How long the answer may take, in seconds; the server's own limit is the most.",
}

_TEXT_CONTENT: dict[str, Any] = {"text/plain": {"schema": {"type": "string"}}}

_UPLOAD: dict[str, Any] = {
    "required": True,
    "content": {
        _FORM: {"schema": _ref(answers.Upload)},
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    },
}
