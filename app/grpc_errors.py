"""Errors on the gRPC wire: the one table from errors to statuses, and what goes beside them."""

import logging
from typing import Any

import grpc

from contracts import errors
from contracts.errors import RateLimited, ServiceError, ServingError

_LOG = logging.getLogger(__name__)

STATUS: dict[type[ServingError], grpc.StatusCode] = {
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InvalidAdapter: grpc.StatusCode.INVALID_ARGUMENT,
    errors.AdapterTooLarge: grpc.StatusCode.INVALID_ARGUMENT,
    errors.WrongBaseModel: grpc.StatusCode.FAILED_PRECONDITION,
    errors.UnknownModel: grpc.StatusCode.NOT_FOUND,
    errors.PromptTooLong: grpc.StatusCode.INVALID_ARGUMENT,
    errors.Unauthorized: grpc.StatusCode.UNAUTHENTICATED,
    errors.Forbidden: grpc.StatusCode.PERMISSION_DENIED,
    errors.RateLimited: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.StoreUnavailable: grpc.StatusCode.UNAVAILABLE,
    errors.AdapterCorrupt: grpc.StatusCode.DATA_LOSS,
    errors.Overloaded: grpc.StatusCode.UNAVAILABLE,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.NotReady: grpc.StatusCode.UNAVAILABLE,
    errors.EngineFailed: grpc.StatusCode.INTERNAL,
}
"""The status of each error; a class that is not here has its nearest ancestor's, else INTERNAL."""

CODE_KEY = "flora-error-code"
PARAM_KEY = "flora-error-param"
PUSHBACK_KEY = "grpc-retry-pushback-ms"
"""Trailing metadata. The last one is gRPC's own: clients that retry wait for that long."""

RETRY_AFTER_S = 1.0

_MAX_DETAILS_CHARACTERS = 1024
_RETRIED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)


def status_of(error: ServingError) -> grpc.StatusCode:
    """The gRPC status that answers `error`."""
    found = (STATUS[c] for c in type(error).__mro__ if c in STATUS)
    return next(found, grpc.StatusCode.INTERNAL)


def trailers_of(error: ServingError) -> list[tuple[str, str]]:
    """The error's code, field and, where a repetition may help, the time until then."""
    trailers = [(CODE_KEY, error.code)]
    if error.param and error.param.isascii() and error.param.isprintable():
        trailers.append((PARAM_KEY, error.param))
    if status_of(error) in _RETRIED:
        wait_s = error.retry_after_s if isinstance(error, RateLimited) else RETRY_AFTER_S
        trailers.append((PUSHBACK_KEY, str(max(1, round(wait_s * 1000)))))
    return trailers


def set_error(context: Any, error: Exception) -> None:
    """End the call of `context` with `error`; the method then returns an empty message.

    Raised instead, the trailers would be lost on the way through Ray Serve.
    """
    if not isinstance(error, ServingError):
        _LOG.error("unhandled error", exc_info=error)
        error = ServingError("Internal error.")
    elif isinstance(error, ServiceError):
        _LOG.warning("%s: %s", error.code, error)
    context.set_code(status_of(error))
    context.set_details(error.message[:_MAX_DETAILS_CHARACTERS])
    context.set_trailing_metadata(trailers_of(error))
