"""Errors on the HTTP wire: the one table from errors to statuses, and OpenAI's error body."""

import logging
import math
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from app.http_limits import limit_headers
from app.quota import OverQuota
from contracts import errors
from contracts.errors import InvalidRequest, RateLimited, ServiceError, ServingError

_LOG = logging.getLogger(__name__)

STATUS: dict[type[ServingError], int] = {
    errors.InvalidRequest: 400,
    errors.InvalidAdapter: 400,
    errors.AdapterTooLarge: 413,
    errors.WrongBaseModel: 400,
    errors.UnknownModel: 404,
    errors.PromptTooLong: 400,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.RateLimited: 429,
    errors.StoreUnavailable: 503,
    errors.AdapterCorrupt: 500,
    errors.Overloaded: 503,
    errors.DeadlineExceeded: 504,
    errors.NotReady: 503,
    errors.EngineFailed: 500,
}
"""The status of each error; a class that is not here has its nearest ancestor's, else 500."""

RETRY_AFTER_S = 1

_KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}

_HTTP_CODES = {404: "not_found", 405: "method_not_allowed", 413: "request_too_large"}


def status_of(error: ServingError) -> int:
    """The HTTP status that answers `error`."""
    return next((STATUS[c] for c in type(error).__mro__ if c in STATUS), 500)


def error_body(error: ServingError) -> dict[str, Any]:
    """OpenAI's error object."""
    status = status_of(error)
    kind = "server_error" if status >= 500 else _KINDS.get(status, "invalid_request_error")
    return _body(error.message, kind, error.param, error.code)


def error_response(error: ServingError) -> Response:
    """`error` as a whole answer; one that is worth repeating says when."""
    status = status_of(error)
    return _json(status, error_body(error), _headers_of(error, status))


def invalid_request(error: ValidationError) -> InvalidRequest:
    """Pydantic's first complaint as ours: the field's path, then what is wrong with it."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    # Branches of a union appear in the path as types; only fields and list places are the user's.
    path = ".".join(str(part) for part in first["loc"] if str(part).replace("_", "").isalnum())
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = f"unknown field '{path}'"
    elif first["type"] == "json_invalid":
        message = f"the body is not valid JSON: {message.removeprefix('Invalid JSON: ')}"
    elif path:
        message = f"'{path}': {message}"
    return InvalidRequest(message, path or _quoted_field(message))


def install_error_handlers(app: FastAPI) -> None:
    """Give every failure of every route the one body."""

    async def on_serving_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, ServingError)
        if isinstance(error, ServiceError):
            _LOG.warning("%s: %s", error.code, error)
        return error_response(error)

    async def on_http_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = _HTTP_CODES.get(error.status_code, "http_error")
        body = _body(str(error.detail), "invalid_request_error", None, code)
        return _json(error.status_code, body, dict(error.headers or {}))

    async def on_validation_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        name = str(first["loc"][-1])
        return error_response(InvalidRequest(f"'{name}': {first['msg']}", name))

    async def on_bug(_: Request, error: Exception) -> Response:
        _LOG.error("unhandled error", exc_info=error)
        return _json(500, _body("Internal error.", "server_error", None, "internal_error"), {})

    app.add_exception_handler(ServingError, on_serving_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    app.add_exception_handler(Exception, on_bug)


def _headers_of(error: ServingError, status: int) -> dict[str, str]:
    if isinstance(error, RateLimited):
        retry = {"Retry-After": str(max(1, math.ceil(error.retry_after_s)))}
        return retry | limit_headers(error.standing if isinstance(error, OverQuota) else None)
    if status == 401:
        return {"WWW-Authenticate": "Bearer"}
    return {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else {}


def _quoted_field(message: str) -> str | None:
    """Our own validators name the field in quotes."""
    parts = message.split("'")
    return parts[1] if len(parts) > 2 else None


def _body(message: str, kind: str, param: str | None, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _json(status: int, body: dict[str, Any], headers: dict[str, str]) -> Response:
    return Response(orjson.dumps(body), status, headers, media_type="application/json")
