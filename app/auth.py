"""From a request's credentials to its caller, before anything is looked up. Knows no HTTP."""

from typing import Protocol

from contracts.access import LOCAL_CALLER, Caller, Scope
from contracts.errors import Forbidden, Unauthorized

_SCHEME = "bearer"


class Authoriser(Protocol):
    """Says who calls."""

    async def caller(self, authorization: str | None) -> Caller:
        """The caller behind an `Authorization` header or metadata entry, None where there is none.

        Raises Unauthorized, StoreUnavailable where nobody can say now.
        """
        ...


class OpenToAll:
    """No keys: everybody is the local caller, whatever they send."""

    async def caller(self, authorization: str | None) -> Caller:
        """See Authoriser."""
        return LOCAL_CALLER


class Keyring(Protocol):
    """The keys that exist."""

    async def find(self, secret: str) -> Caller | None:
        """Who owns the key; None for one that is unknown, expired or revoked.

        Raises StoreUnavailable.
        """
        ...


class KeyAuthoriser:
    """Bearer keys of `keyring`."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    async def caller(self, authorization: str | None) -> Caller:
        """See Authoriser."""
        scheme, _, secret = (authorization or "").partition(" ")
        secret = secret.strip()
        if scheme.lower() != _SCHEME or not secret:
            raise Unauthorized("Send an API key: 'Authorization: Bearer KEY'.")
        found = await self._keyring.find(secret)
        if found is None:
            # One answer for unknown, expired and revoked: it tells nothing about the key.
            raise Unauthorized("The API key is not valid.")
        return found


def require_scope(caller: Caller, scope: Scope) -> None:
    """Raises Forbidden."""
    if not caller.may(scope):
        raise Forbidden(f"The API key lacks the scope '{scope}'.")
