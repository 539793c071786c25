"""The HTTP application of one door."""

from collections.abc import Sequence

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from app.door import Door
from app.http_access_log import LoggedApplication
from app.http_adapter_shares import adapter_share_routes
from app.http_adapter_versions import adapter_version_routes
from app.http_adapters import adapter_routes
from app.http_audio import audio_routes
from app.http_completions import completion_routes
from app.http_console import console_routes
from app.http_embeddings import embedding_routes
from app.http_errors import install_error_handlers
from app.http_metrics import metrics_routes
from app.http_models import model_routes
from app.http_openapi import install_openapi
from app.http_replicas import replica_routes
from app.http_tokenize import tokenize_routes
from app.http_usage import usage_routes


def create_app(door: Door, cors_origins: Sequence[str] = ()) -> FastAPI:
    """All routes over `door`; the app holds no state of its own.

    Pages of `cors_origins` ("*": all) may call it from a browser, with their own keys.
    """
    app = LoggedApplication(lambda: door.access, title="flora-serve", redirect_slashes=False)
    install_error_handlers(app)
    if cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=cors_origins,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["*"],
            expose_headers=["Retry-After", "X-Request-Id"],
        )
    for router in (
        completion_routes(door),
        tokenize_routes(door),
        audio_routes(door),
        embedding_routes(door),
        model_routes(door),
        adapter_routes(door),
        adapter_version_routes(door),
        adapter_share_routes(door),
        metrics_routes(door),
        replica_routes(door),
        usage_routes(door),
        console_routes(),
    ):
        app.include_router(router)
    install_openapi(app)
    return app
