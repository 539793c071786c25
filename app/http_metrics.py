"""GET /metrics."""

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from app.door_metrics import DoorMetrics


def metrics_routes(metrics: DoorMetrics) -> APIRouter:
    """What this ingress process has counted."""
    router = APIRouter()

    @router.get("/metrics")
    async def scrape() -> Response:
        """Counters in Prometheus' text form."""
        return Response(metrics.render(), media_type=CONTENT_TYPE_LATEST)

    return router
