"""One base model behind a door: the way to its replicas, and what it alone knows."""

import asyncio
from collections.abc import MutableMapping, Sequence

from app.ask import Ask
from app.dispatcher import Dispatcher
from app.gather import Gather
from app.prefetch import Prefetcher
from app.prompts import Prompts
from app.replica_state import ReplicaState
from app.structure import GrammarCheck, NoGrammars, NoTools, ToolParsing
from app.token_stream import TokenStream
from contracts.access import Caller
from contracts.errors import NotReady, ServingError
from contracts.replica import ReplicaInfo
from flora.layout import AdapterLayout
from flora.lora_layout import LoraLayout
from flora.speech.vocabulary import SpeechVocabulary

Bases = MutableMapping[str, str]
"""The fingerprint of each model's base by the model's name, once a replica has told it."""


class ServedModel:
    """What routes need of the base model that clients call `name`.

    `bases` is one mapping for all models of a door, `speech` that of a model that listens. A
    replica has `ready_timeout_s` to say what it is, and `metrics_timeout_s` to say what it counts.
    """

    def __init__(
        self,
        name: str,
        *,
        dispatcher: Dispatcher,
        prompts: Prompts,
        gather: Gather,
        bases: Bases | None = None,
        prefetcher: Prefetcher | None = None,
        grammars: GrammarCheck | None = None,
        tools: ToolParsing | None = None,
        speech: SpeechVocabulary | None = None,
        ready_timeout_s: float = 5.0,
        metrics_timeout_s: float = 0.5,
    ) -> None:
        self.name = name
        self.dispatcher = dispatcher
        self.prompts = prompts
        self.prefetcher = prefetcher or Prefetcher(dispatcher)
        self.grammars = grammars or NoGrammars()
        self.tools = tools or NoTools()
        self.speech = speech
        self._gather = gather
        self._bases = {} if bases is None else bases
        self._ready_timeout_s = ready_timeout_s
        self._metrics_timeout_s = metrics_timeout_s
        self._info: ReplicaInfo | None = None
        self._layout: AdapterLayout | None = None
        self._lora_layout: LoraLayout | None = None

    def __repr__(self) -> str:
        return f"<ServedModel {self.name!r}, {self._gather!r}>"

    @property
    def fingerprint(self) -> str | None:
        """The base's, once a replica has told it."""
        return self._bases.get(self.name)

    async def info(self) -> ReplicaInfo:
        """The replica's facts, asked for once. Raises NotReady."""
        if self._info is None:
            self._info = await self.ask_replica()
        return self._info

    async def layout(self) -> AdapterLayout:
        """What uploads are compiled against. Raises NotReady."""
        if self._layout is None:
            self._layout = AdapterLayout.from_json((await self.info()).layout_json)
            self._bases[self.name] = self._layout.base_fingerprint
        return self._layout

    async def lora_layout(self) -> LoraLayout | None:
        """The same for LoRA adapters; None where the engine takes none. Raises NotReady."""
        text = (await self.info()).lora_layout_json
        if text and self._lora_layout is None:
            self._lora_layout = LoraLayout(AdapterLayout.from_json(text))
        return self._lora_layout

    async def ask_replica(self) -> ReplicaInfo:
        """What a replica says now. Raises NotReady when none answers in time."""
        try:
            async with asyncio.timeout(self._ready_timeout_s):
                return await self.dispatcher.describe()
        except TimeoutError:
            raise NotReady("The engine does not answer yet.") from None

    async def trouble(self) -> ServingError | None:
        """Why it cannot answer now, if it cannot."""
        try:
            await self.ask_replica()
        except ServingError as error:
            return error
        return None

    async def replica_metrics(self) -> dict[str, bytes]:
        """What replicas have counted, by their ids; empty where they do not answer in time."""
        try:
            async with asyncio.timeout(self._metrics_timeout_s):
                return await self.dispatcher.metrics()
        except (ServingError, TimeoutError):
            return {}

    async def replicas(self) -> list[ReplicaState]:
        """Those that answer in time and those that are known to be there, by their ids."""
        pages = await self.replica_metrics()
        reports = self.dispatcher.reports()
        return [
            ReplicaState(replica_id, self.name, pages.get(replica_id), reports.get(replica_id))
            for replica_id in sorted(pages.keys() | reports.keys())
        ]

    def require_room(self, caller: Caller) -> None:
        """Raises Overloaded where a request of `caller` would find no place now.

        To be asked before a request costs anything.
        """
        self._gather.require_room(caller)

    async def aclose(self) -> None:
        """End its threads, processes and calls; what leads to the replicas is its maker's."""
        await self.prefetcher.aclose()
        self.prompts.close()
        await self.grammars.aclose()

    def open(self, asks: Sequence[Ask]) -> list[TokenStream]:
        """One stream per ask of one request. Raises Overloaded for all of them together.

        The streams may be closed at any time, also while they wait for their window.
        """
        return self._gather.open(asks)
