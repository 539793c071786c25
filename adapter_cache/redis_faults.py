"""What the Redis client raises, in our words. The only table of it."""

from collections.abc import Iterator
from contextlib import contextmanager

from redis import exceptions

from contracts.errors import StoreUnavailable

_FAULTS: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.AuthenticationError, "refused the configured credentials"),
    (exceptions.AuthorizationError, "does not allow this client what it needs"),
    (exceptions.NoPermissionError, "does not allow this client what it needs"),
    (exceptions.BusyLoadingError, "is still loading its data"),
    (exceptions.MaxConnectionsError, "has no connection free"),
    (exceptions.TimeoutError, "did not answer in time"),
    (exceptions.ConnectionError, "cannot be reached"),
    (exceptions.OutOfMemoryError, "is out of memory"),
    (exceptions.ReadOnlyError, "is a read-only replica"),
    (exceptions.ResponseError, "refused a command"),
    (exceptions.RedisError, "failed"),
    (exceptions.RedisClusterException, "failed"),
    (OSError, "cannot be reached"),
)
"""First match wins. The sentences name no address and no credential."""


@contextmanager
def translated() -> Iterator[None]:
    """Turn what the Redis client raises into StoreUnavailable; let everything else through."""
    try:
        yield
    except tuple(fault for fault, _ in _FAULTS) as error:
        what = next(text for fault, text in _FAULTS if isinstance(error, fault))
        raise StoreUnavailable(f"the adapter store {what}") from error
