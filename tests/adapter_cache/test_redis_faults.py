"""The table is complete: whatever the client can raise becomes StoreUnavailable."""

import asyncio

import pytest
from redis import exceptions

from adapter_cache.redis_faults import translated
from contracts.errors import StoreUnavailable

# Not faults of a server: a fork while a lock is held, and a mistake in calling the client.
NOT_FAULTS = {exceptions.ChildDeadlockedError, exceptions.IncorrectPolicyType}
FAULTS = [
    fault
    for fault in vars(exceptions).values()
    if isinstance(fault, type) and issubclass(fault, Exception) and fault not in NOT_FAULTS
]


@pytest.mark.parametrize("fault", [*FAULTS, OSError, TimeoutError, ConnectionResetError])
def test_every_fault_is_translated(fault: type[Exception]) -> None:
    error = fault.__new__(fault)
    with pytest.raises(StoreUnavailable, match=r"^the adapter store ") as caught, translated():
        raise error
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("stranger", [ValueError, KeyError, asyncio.CancelledError])
def test_other_errors_pass(stranger: type[BaseException]) -> None:
    with pytest.raises(stranger), translated():
        raise stranger
