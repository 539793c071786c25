"""The way from the door to the replicas. Knows nothing of Ray."""

import logging
from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from contracts.adapters import AdapterKey
from contracts.errors import EngineFailed, ServingError
from contracts.generation import GenerateRequest, TokenBatch
from contracts.replica import ReplicaInfo, ReplicaReport

_LOG = logging.getLogger(__name__)


class Dispatcher(Protocol):
    """Every failure of a call is a ServingError; a single request's failure is in its delta."""

    def generate(self, requests: tuple[GenerateRequest, ...]) -> AsyncIterator[TokenBatch]:
        """Run one group on one replica; one TokenBatch an engine step, `index` within the group."""
        ...

    async def cancel(self, request_ids: tuple[str, ...]) -> None:
        """Stop these requests wherever they run; ids that run nowhere are ignored."""
        ...

    async def describe(self) -> ReplicaInfo:
        """What a replica says of itself. Raises NotReady while none is up."""
        ...

    async def prefetch(self, keys: tuple[AdapterKey, ...]) -> None:
        """Have every replica bring these to its node; what cannot be fetched is left out."""
        ...

    async def metrics(self) -> dict[str, bytes]:
        """What each replica has counted, as Prometheus text, by its id; without the silent ones."""
        ...

    def reports(self) -> Mapping[str, ReplicaReport | None]:
        """The replicas that are known to be there, by id, each with what it has reported last."""
        ...


class Replica(Protocol):
    """The methods of `replicas.ray_deployment.ReplicaDeployment` that the door calls."""

    def generate(self, requests: tuple[GenerateRequest, ...]) -> AsyncIterator[TokenBatch]: ...

    async def cancel(self, request_ids: tuple[str, ...]) -> None: ...

    async def describe(self) -> ReplicaInfo: ...

    async def prefetch(self, keys: tuple[AdapterKey, ...]) -> None: ...

    async def metrics(self) -> tuple[str, bytes]: ...


class LocalDispatcher:
    """The Dispatcher over one replica in the same process: for tests and embedding."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    async def generate(self, requests: tuple[GenerateRequest, ...]) -> AsyncIterator[TokenBatch]:
        """See Dispatcher."""
        try:
            async for batch in self._replica.generate(requests):
                yield batch
        except ServingError:
            raise
        except Exception as error:
            _LOG.exception("the replica failed")
            raise EngineFailed(f"The engine failed ({type(error).__name__}).") from error

    async def cancel(self, request_ids: tuple[str, ...]) -> None:
        """See Dispatcher."""
        await self._replica.cancel(request_ids)

    async def describe(self) -> ReplicaInfo:
        """See Dispatcher."""
        return await self._replica.describe()

    async def prefetch(self, keys: tuple[AdapterKey, ...]) -> None:
        """See Dispatcher."""
        await self._replica.prefetch(keys)

    async def metrics(self) -> dict[str, bytes]:
        """See Dispatcher."""
        return dict([await self._replica.metrics()])

    def reports(self) -> Mapping[str, ReplicaReport | None]:
        """See Dispatcher: nobody reports in one process."""
        return {}
