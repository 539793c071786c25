"""What every call has in common: who calls, from where, and how it ends."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, TypeVar

import psutil  # type: ignore[import-untyped]

from app.auth import require_scope
from app.door import Door
from app.grpc_errors import set_error
from app.grpc_health import Health
from app.grpc_peer import is_near
from app.request_context import current_request
from contracts.access import Caller, Scope
from contracts.errors import Forbidden

Message = TypeVar("Message")
Request = TypeVar("Request")

REQUEST_ID_KEY = "x-request-id"
_LOGGED_KEYS = (REQUEST_ID_KEY, "traceparent")


class GrpcCalls:
    """Runs calls of `door`.

    A `near_only` server answers this machine alone, like the HTTP server that listens on the
    loopback: Ray Serve's gRPC ports are open on every address.
    """

    def __init__(self, door: Door, *, near_only: bool) -> None:
        self.door = door
        self.health = Health(door)
        self._own_addresses = _own_addresses() if near_only else None

    async def unary(
        self,
        context: Any,
        scope: Scope,
        handler: Callable[[Door, Caller, Request], Awaitable[Message]],
        request: Request,
        failed: Callable[[], Message],
    ) -> Message:
        """The handler's answer, or `failed()` with the error's status in `context`."""
        with self._logged(context, failed) as request_id:
            try:
                return await handler(self.door, await self._caller(context, scope), request)
            except Exception as error:
                _fail(context, error, request_id)
                return failed()

    async def stream(
        self,
        context: Any,
        scope: Scope,
        handler: Callable[[Door, Caller, Request], AsyncGenerator[Message, None]],
        request: Request,
        failed: Callable[[], Message],
    ) -> AsyncGenerator[Message, None]:
        """The handler's answers, then `failed()` with the error's status in `context`, if any.

        Ray Serve's own proxy looks at the context when a message comes, and only then.
        """
        with self._logged(context, failed) as request_id:
            try:
                caller = await self._caller(context, scope)
                async with aclosing(handler(self.door, caller, request)) as answers:
                    async for answer in answers:
                        yield answer
            except Exception as error:
                _fail(context, error, request_id)
                yield failed()

    def require_near(self, context: Any) -> None:
        """Raises Forbidden."""
        if self._own_addresses is not None and not is_near(context.peer(), self._own_addresses):
            raise Forbidden("This server answers its own machine alone.")

    async def _caller(self, context: Any, scope: Scope) -> Caller:
        self.require_near(context)
        caller = await self.door.auth.caller(_authorization(context))
        current_request().caller = caller
        require_scope(caller, scope)
        return caller

    @contextmanager
    def _logged(self, context: Any, failed: Callable[[], Message]) -> Iterator[str]:
        """One call in the access log; gives its request id, which the trailers carry."""
        sent = {key: value for key, value in context.invocation_metadata() if key in _LOGGED_KEYS}
        call = self.door.access.begin("grpc", sent.get(REQUEST_ID_KEY), sent.get("traceparent"))
        request_id = call.context.request_id
        context.set_trailing_metadata([(REQUEST_ID_KEY, request_id)])
        status = "CANCELLED"
        try:
            yield request_id
            status = getattr(context.code(), "name", "OK")
        finally:
            # Each answer's type is called like its method.
            call.end(type(failed()).__name__.removesuffix("Response"), status)


def _fail(context: Any, error: Exception, request_id: str) -> None:
    set_error(context, error)
    # Ray Serve puts its own id in front of whatever is set.
    ours = [(key, value) for key, value in context.trailing_metadata() if key != "request_id"]
    context.set_trailing_metadata([*ours, (REQUEST_ID_KEY, request_id)])


def _authorization(context: Any) -> str | None:
    return next((v for key, v in context.invocation_metadata() if key == "authorization"), None)


def _own_addresses() -> frozenset[str]:
    addresses = psutil.net_if_addrs().values()
    return frozenset(each.address.partition("%")[0] for group in addresses for each in group)
