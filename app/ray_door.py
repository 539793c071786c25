"""The ingress deployment: the HTTP application and its window, in a Ray Serve replica."""

import time
import uuid
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from adapter_cache.redis_store import RedisAdapterStore
from app.config import Settings
from app.door import Door, DoorLimits
from app.gather import Gather, OpenWindow
from app.http_api import create_app
from app.prompts import Prompts
from app.ray_dispatcher import RayDispatcher
from app.token_stream import TokenStream
from app.window import Ask, Window

_MAX_CONCURRENT_BATCHES = 1024
_STOP_S = 3.0


@serve.ingress()
class RayDoor:
    """One ingress process. `replica` is the handle of the replica deployment."""

    def __init__(self, settings: Settings, replica: "DeploymentHandle[Any]") -> None:
        cache, window = settings.cache, settings.window
        store = RedisAdapterStore(cache.redis_url, cache.key_prefix, cache.redis)
        dispatcher = RayDispatcher(replica)
        self._window = Window(store, dispatcher, store_timeout_s=window.store_timeout_s)
        self._door = Door(
            base_model=settings.base_model_name,
            store=store,
            dispatcher=dispatcher,
            prompts=Prompts.load(settings.replica.model),
            gather=batched(self._window.open, window.max_batch_size, window.wait_s),
            limits=DoorLimits(
                max_body_bytes=settings.server.max_body_bytes,
                request_timeout_s=settings.server.request_timeout_s,
                max_parallel_uploads=settings.upload.max_parallel,
                adapter=settings.upload.limits,
            ),
            metrics=self._window.metrics,
            clock=time.time,
            new_id=lambda: uuid.uuid4().hex,
        )

    def __serve_build_asgi_app__(self) -> object:
        """Ray Serve asks for the application once the constructor has run."""
        return create_app(self._door)

    async def __del__(self) -> None:
        await self._window.aclose()
        self._door.prompts.close()


def batched(open_window: OpenWindow, max_batch_size: int, wait_s: float) -> Gather:
    """`open_window` behind Ray Serve's request batching: one window a batch.

    A batch only opens its streams, so the next one never waits for tokens.
    """

    @serve.batch(
        max_batch_size=max_batch_size,
        batch_wait_timeout_s=wait_s,
        max_concurrent_batches=_MAX_CONCURRENT_BATCHES,
    )
    async def window(asks: list[Ask]) -> list[TokenStream]:
        return open_window(asks)

    gather: Gather = window
    return gather


def door_app(settings: Settings, replica: serve.Application) -> serve.Application:
    """The ingress over `replica`, ready for `serve.run`."""
    deployment = serve.deployment(
        RayDoor,
        name="door",
        num_replicas=settings.server.num_ingress_replicas,
        max_ongoing_requests=settings.server.max_ongoing_requests,
        max_constructor_retry_count=2,
        graceful_shutdown_timeout_s=_STOP_S,
        graceful_shutdown_wait_loop_s=0.2,
        ray_actor_options={"num_cpus": 0},
    )
    return deployment.bind(settings, replica)
