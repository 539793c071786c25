"""Every error that crosses a package or a process, as one tree.

ServingError
|-- CallerError                the request is at fault: do not retry it unchanged (but RateLimited)
|   |-- InvalidRequest         malformed JSON, unknown field, value out of range
|   |-- InvalidAdapter         an upload that is not a well-formed adapter
|   |   |-- AdapterTooLarge    over a byte or rank limit
|   |   `-- WrongBaseModel     made for another base model
|   |-- UnknownModel           no such model or adapter, or not yours: the same answer
|   |-- PromptTooLong          prompt and answer do not fit the context window
|   |-- Unauthorized           no valid key: none, unknown, expired or revoked
|   |-- Forbidden              the key lacks the scope
|   `-- RateLimited            over a quota of the key: the same request passes later
`-- ServiceError               we are at fault: the same request may succeed later
    |-- StoreUnavailable       the registry or the blob store does not answer
    |-- AdapterCorrupt         bytes that do not have the digest they were asked for by
    |-- Overloaded             a bounded queue is full
    |-- DeadlineExceeded       not done in the time allowed
    |-- NotReady               the engine is starting or stopping
    `-- EngineFailed           the engine dropped this request

`code` is stable and part of the API. The HTTP and gRPC status tables live at the door.
"""


class ServingError(Exception):
    """Base of the tree. `param` names the request field at fault, if one is."""

    code = "internal_error"
    retryable = False

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message, param)
        self.message = message
        self.param = param

    def __str__(self) -> str:
        return self.message


class CallerError(ServingError):
    code = "invalid_request"


class InvalidRequest(CallerError):
    code = "invalid_request"


class InvalidAdapter(CallerError):
    code = "invalid_adapter"


class AdapterTooLarge(InvalidAdapter):
    code = "adapter_too_large"


class WrongBaseModel(InvalidAdapter):
    code = "wrong_base_model"


class UnknownModel(CallerError):
    code = "model_not_found"


class PromptTooLong(CallerError):
    code = "context_length_exceeded"


class Unauthorized(CallerError):
    code = "invalid_api_key"


class Forbidden(CallerError):
    code = "insufficient_scope"


class RateLimited(CallerError):
    """`retry_after_s` is when the same request would pass, as far as is known now."""

    code = "rate_limit_exceeded"
    retryable = True

    def __init__(self, message: str, param: str | None = None, retry_after_s: float = 1.0) -> None:
        super().__init__(message, param)
        # All of it, so that the error survives a pickle.
        self.args = (message, param, retry_after_s)
        self.retry_after_s = retry_after_s


class ServiceError(ServingError):
    code = "service_error"
    retryable = True


class StoreUnavailable(ServiceError):
    code = "store_unavailable"


class AdapterCorrupt(ServiceError):
    code = "adapter_corrupt"


class Overloaded(ServiceError):
    code = "overloaded"


class DeadlineExceeded(ServiceError):
    code = "deadline_exceeded"


class NotReady(ServiceError):
    code = "not_ready"


class EngineFailed(ServiceError):
    code = "engine_failed"
