"""Everything that a route needs, and the admission of requests. Knows nothing of HTTP."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from adapter_cache.registry_guard import AlwaysWhole, Guard
from adapter_cache.store import AdapterStore
from app.access_log import AccessLog
from app.ask import Ask
from app.auth import Authoriser, OpenToAll
from app.dispatcher import Dispatcher
from app.door_metrics import DoorMetrics
from app.gather import Gather
from app.model_name import ModelName, parse_model_name, unknown_model
from app.prefetch import Prefetcher
from app.prompts import Prompts
from app.structure import GrammarCheck, NoGrammars, NoTools, ToolParsing
from app.token_stream import TokenStream
from app.upload_places import UploadPlaces
from contracts.access import Caller
from contracts.errors import NotReady, ServiceError, ServingError
from contracts.replica import ReplicaInfo
from flora.adapter_config import AdapterLimits
from flora.layout import AdapterLayout


@dataclass(frozen=True, slots=True)
class DoorLimits:
    """What one request may take. See ServerSettings and UploadSettings."""

    max_body_bytes: int = 2 * 1024**2
    request_timeout_s: float = 600.0
    max_parallel_uploads: int = 2
    ready_timeout_s: float = 5.0
    metrics_timeout_s: float = 0.5
    adapter: AdapterLimits = field(default_factory=AdapterLimits)


class Door:
    """The parts behind the routes of one ingress process.

    `clock` gives Unix time in seconds, `new_id` a string never given before.
    """

    def __init__(
        self,
        *,
        base_model: str,
        store: AdapterStore,
        dispatcher: Dispatcher,
        prompts: Prompts,
        gather: Gather,
        limits: DoorLimits,
        metrics: DoorMetrics,
        clock: Callable[[], float],
        new_id: Callable[[], str],
        guard: Guard | None = None,
        prefetcher: Prefetcher | None = None,
        auth: Authoriser | None = None,
        access: AccessLog | None = None,
        grammars: GrammarCheck | None = None,
        tools: ToolParsing | None = None,
    ) -> None:
        self.access = access or AccessLog(metrics.registry)
        self.grammars = grammars or NoGrammars()
        self.tools = tools or NoTools()
        self.auth = auth or OpenToAll()
        self.base_model = base_model
        self.store = store
        self.dispatcher = dispatcher
        self.prompts = prompts
        self.limits = limits
        self.metrics = metrics
        self.clock = clock
        self.new_id = new_id
        self.guard = guard or AlwaysWhole()
        self.prefetcher = prefetcher or Prefetcher(dispatcher)
        self.started_at_s = int(clock())
        self.uploads = UploadPlaces(limits.max_parallel_uploads)
        self._gather = gather
        self._info: ReplicaInfo | None = None
        self._layout: AdapterLayout | None = None

    def model(self, text: str) -> ModelName:
        """The `model` field of a request. Raises UnknownModel."""
        return parse_model_name(text, self.base_model)

    async def unknown(self, text: str) -> ServingError:
        """What to raise for a name that the store does not have: it may not have it *yet*."""
        try:
            await self.guard.require_whole()
        except ServiceError as error:
            return error
        return unknown_model(text)

    async def info(self) -> ReplicaInfo:
        """The replica's facts, asked for once. Raises NotReady."""
        if self._info is None:
            self._info = await self.ask_replica()
        return self._info

    async def layout(self) -> AdapterLayout:
        """What uploads are compiled against. Raises NotReady."""
        if self._layout is None:
            self._layout = AdapterLayout.from_json((await self.info()).layout_json)
        return self._layout

    async def ask_replica(self) -> ReplicaInfo:
        """What a replica says now. Raises NotReady when none answers in time."""
        try:
            async with asyncio.timeout(self.limits.ready_timeout_s):
                return await self.dispatcher.describe()
        except TimeoutError:
            raise NotReady("The engine does not answer yet.") from None

    async def replica_metrics(self) -> dict[str, bytes]:
        """What replicas have counted, by their ids; empty where they do not answer in time."""
        try:
            async with asyncio.timeout(self.limits.metrics_timeout_s):
                return await self.dispatcher.metrics()
        except (ServingError, TimeoutError):
            return {}

    def require_room(self, caller: Caller) -> None:
        """Raises Overloaded where a request of `caller` would find no place now.

        To be asked before a request costs anything.
        """
        self._gather.require_room(caller)

    async def open(self, asks: Sequence[Ask]) -> list[TokenStream]:
        """One stream per ask of one request. Raises Overloaded for all of them together.

        The streams may be closed at any time, also while they wait for their window.
        """
        return self._gather.open(self.access.admit(asks))
