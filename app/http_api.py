"""The HTTP application of one door."""

from fastapi import FastAPI

from app.door import Door
from app.http_access_log import LoggedApplication
from app.http_adapter_versions import adapter_version_routes
from app.http_adapters import adapter_routes
from app.http_completions import completion_routes
from app.http_errors import install_error_handlers
from app.http_metrics import metrics_routes
from app.http_models import model_routes


def create_app(door: Door) -> FastAPI:
    """All routes over `door`; the app holds no state of its own."""
    app = LoggedApplication(lambda: door.access, title="flora-serve", redirect_slashes=False)
    install_error_handlers(app)
    for router in (
        completion_routes(door),
        model_routes(door),
        adapter_routes(door),
        adapter_version_routes(door),
        metrics_routes(door),
    ):
        app.include_router(router)
    return app
