"""Who calls a route: its dependency on a key and a scope."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Request, Security
from fastapi.security import HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials

from app.auth import require_scope
from app.door import Door
from app.request_context import current_request
from contracts.access import Caller, Scope

_BEARER = HTTPBearer(auto_error=False, description="An API key.")


def requires(door: Door, scope: Scope) -> Callable[..., Awaitable[Caller]]:
    """A dependency that gives the caller. It runs before the route reads its body.

    Raises Unauthorized, Forbidden, StoreUnavailable.
    """
    # Declared for the OpenAPI document, which names the scope of each route.
    declared = Annotated[
        HTTPAuthorizationCredentials | None, Security(_BEARER, scopes=[scope.value])
    ]

    async def authorised(request: Request, _: declared) -> Caller:
        caller = await door.auth.caller(request.headers.get("authorization"))
        current_request().caller = caller
        require_scope(caller, scope)
        return caller

    return authorised
