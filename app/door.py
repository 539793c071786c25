"""Everything that a route needs, and the admission of requests. Knows nothing of HTTP."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from adapter_cache.registry_guard import AlwaysWhole, Guard
from adapter_cache.store import AdapterStore
from app.access_log import AccessLog
from app.ask import Ask
from app.auth import Authoriser, OpenToAll
from app.door_metrics import DoorMetrics
from app.model_name import ModelName, parse_model_name, unknown_model
from app.recent_usage import RecentUsage
from app.replica_state import ReplicaState
from app.served_model import ServedModel
from app.token_stream import TokenStream
from app.upload_places import UploadPlaces
from contracts.adapters import AdapterManifest
from contracts.errors import InvalidRequest, NotReady, ServiceError, ServingError
from flora.adapter_config import AdapterLimits


@dataclass(frozen=True, slots=True)
class DoorLimits:
    """What one request may take. See ServerSettings and UploadSettings."""

    max_body_bytes: int = 2 * 1024**2
    request_timeout_s: float = 600.0
    max_parallel_uploads: int = 2
    max_audio_bytes: int = 16 * 1024**2
    max_parallel_clips: int = 2
    adapter: AdapterLimits = field(default_factory=AdapterLimits)


class Door:
    """The parts behind the routes of one ingress process.

    `models` are in the order in which they are listed, at least one. `clock` gives Unix time in
    seconds, `new_id` a string never given before. `usage` is None where no records are kept.
    """

    def __init__(
        self,
        *,
        models: Sequence[ServedModel],
        store: AdapterStore,
        limits: DoorLimits,
        metrics: DoorMetrics,
        clock: Callable[[], float],
        new_id: Callable[[], str],
        guard: Guard | None = None,
        auth: Authoriser | None = None,
        access: AccessLog | None = None,
        usage: RecentUsage | None = None,
    ) -> None:
        self.models = {model.name: model for model in models}
        self.access = access or AccessLog(metrics.registry)
        self.auth = auth or OpenToAll()
        self.store = store
        self.limits = limits
        self.metrics = metrics
        self.clock = clock
        self.new_id = new_id
        self.guard = guard or AlwaysWhole()
        self.usage = usage
        self.started_at_s = int(clock())
        self.uploads = UploadPlaces(limits.max_parallel_uploads)
        self.clips = UploadPlaces(limits.max_parallel_clips)
        self._first = models[0]

    @property
    def has_several(self) -> bool:
        """Whether there is more than one base model."""
        return len(self.models) > 1

    def model(self, text: str) -> ModelName:
        """The `model` field of a request. Raises UnknownModel."""
        bases = (base for base in self.models if text == base or text.startswith(f"{base}:"))
        return parse_model_name(text, next(bases, self._first.name))

    def served(self, name: ModelName) -> ServedModel:
        """The model that a parsed name is about."""
        return self.models[name.base]

    def base(self, text: str | None) -> ServedModel:
        """A base model by its name, which may be left out where there is one alone.

        Raises InvalidRequest for a name that is missing, UnknownModel for a wrong one.
        """
        if text is None and not self.has_several:
            return self._first
        if text is None:
            known = ", ".join(self.models)
            raise InvalidRequest(f"'model' is needed, one of: {known}", "model")
        if text not in self.models:
            raise unknown_model(text)
        return self.models[text]

    async def model_of(self, manifest: AdapterManifest) -> ServedModel:
        """The model that an adapter is made for; the first one, where none here runs its base.

        Raises NotReady where that is one that has not said yet what it runs.
        """
        if self.has_several:
            # Who has not said it yet is asked only where none of the others is it.
            for model in sorted(self.models.values(), key=lambda each: each.fingerprint is None):
                if (await model.layout()).base_fingerprint == manifest.base_fingerprint:
                    return model
        return self._first

    async def unknown(self, text: str) -> ServingError:
        """What to raise for a name that the store does not have: it may not have it *yet*."""
        try:
            await self.guard.require_whole()
        except ServiceError as error:
            return error
        return unknown_model(text)

    async def require_ready(self) -> None:
        """Store and engines answer now, and the registry is whole. Raises StoreUnavailable, or
        NotReady that names the models whose engines do not answer, where there are several.
        """
        await self.store.ping()
        await self.guard.require_whole()
        asking = (model.trouble() for model in self.models.values())
        troubles = dict(zip(self.models, await asyncio.gather(*asking), strict=True))
        failed = [name for name, trouble in troubles.items() if trouble]
        if failed and self.has_several:
            raise NotReady(f"Not ready: {', '.join(failed)}.")
        if trouble := troubles[self._first.name]:
            raise trouble

    async def replica_metrics(self) -> dict[str, dict[str, bytes]]:
        """What replicas have counted, by model and by their ids; without the silent ones."""
        asking = (model.replica_metrics() for model in self.models.values())
        return dict(zip(self.models, await asyncio.gather(*asking), strict=True))

    async def replicas(self) -> list[ReplicaState]:
        """Every replica of every model, the silent ones too."""
        asking = (model.replicas() for model in self.models.values())
        return [state for states in await asyncio.gather(*asking) for state in states]

    async def open(self, model: ServedModel, asks: Sequence[Ask]) -> list[TokenStream]:
        """See ServedModel.open. Raises NotReady, too."""
        # What the layout says of the base tells adapters of the other models from its own.
        await model.layout()
        return model.open(self.access.admit(asks))
