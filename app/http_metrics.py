"""GET /metrics."""

from fastapi import APIRouter, Depends
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from app.door import Door
from app.http_auth import requires
from app.replica_metrics import merged
from contracts.access import Scope


def metrics_routes(door: Door) -> APIRouter:
    """What this ingress process and the replicas have counted."""
    router = APIRouter()

    @router.get("/metrics", dependencies=[Depends(requires(door, Scope.ADMIN))])
    async def scrape() -> Response:
        """Prometheus' text form; replicas that do not answer in time are left out."""
        by_model = await door.replica_metrics()
        texts = {key: text for group in by_model.values() for key, text in group.items()}
        models = {key: name for name, group in by_model.items() for key in group}
        page = merged(
            door.metrics.render(),
            texts,
            door.metrics.door_id,
            models if door.has_several else {},
        )
        return Response(page, media_type=CONTENT_TYPE_LATEST)

    return router
