"""The service grpc.health.v1.Health over a door: serving only while it can answer."""

import asyncio
from collections.abc import AsyncGenerator

from grpc_health.v1 import health_pb2 as pb

from app.door import Door
from app.grpc_services import SERVICES
from contracts.errors import Overloaded, ServingError

MAX_WATCHERS = 64
WATCH_S = 1.0
"""How old an answer may be, and how often a watcher learns."""

_NAMES = frozenset({"", *(service.full_name for service in SERVICES)})


class Health:
    """All services are ready together: the engine and the store answer, the registry is whole."""

    def __init__(self, door: Door, watch_s: float = WATCH_S) -> None:
        self._door = door
        self._watch_s = watch_s
        self._asking: asyncio.Future[bool] | None = None
        self._fresh_until_s = 0.0
        self.num_watchers = 0

    async def check(self, request: pb.HealthCheckRequest) -> pb.HealthCheckResponse | None:
        """The status now; None for a service that is not served here."""
        return _response(await self._is_ready()) if request.service in _NAMES else None

    async def list_all(self) -> pb.HealthListResponse:
        """The status of each service."""
        status = _response(await self._is_ready())
        return pb.HealthListResponse(statuses=dict.fromkeys(sorted(_NAMES), status))

    async def watch(
        self, request: pb.HealthCheckRequest
    ) -> AsyncGenerator[pb.HealthCheckResponse, None]:
        """The status now and whenever it has changed. Raises Overloaded."""
        if self.num_watchers >= MAX_WATCHERS:
            raise Overloaded("Too many watchers.")
        self.num_watchers += 1
        try:
            last = None
            while True:
                now = await self._status(request.service)
                if now != last:
                    yield now
                last = now
                await asyncio.sleep(self._watch_s)
        finally:
            self.num_watchers -= 1

    async def _status(self, service: str) -> pb.HealthCheckResponse:
        if service not in _NAMES:
            return pb.HealthCheckResponse(status=pb.HealthCheckResponse.SERVICE_UNKNOWN)
        return _response(await self._is_ready())

    async def _is_ready(self) -> bool:
        """One question at a time, whoever asks; its answer is good for a while."""
        now_s = asyncio.get_running_loop().time()
        if self._asking is None or (self._asking.done() and now_s >= self._fresh_until_s):
            self._asking = asyncio.ensure_future(self._ask())
        return await asyncio.shield(self._asking)

    async def _ask(self) -> bool:
        try:
            await self._door.require_ready()
        except ServingError:
            return False
        finally:
            self._fresh_until_s = asyncio.get_running_loop().time() + self._watch_s
        return True


def _response(is_ready: bool) -> pb.HealthCheckResponse:
    states = pb.HealthCheckResponse
    return states(status=states.SERVING if is_ready else states.NOT_SERVING)
