"""Ray and Ray Serve on this machine alone, for as long as this process lives."""

import logging
import os
import re
from collections.abc import Mapping

import ray
from ray import serve
from ray.serve.config import ProxyLocation
from ray.serve.schema import LoggingConfig

from app.config import ServerSettings, Settings
from app.ray_app import build
from app.serve_environment import RAY_ENVIRONMENT
from contracts.errors import EngineFailed

_APP_NAME = "flora"
_EXCEPTION = re.compile(r"[\w.]+(Error|Exception|Failed|Ready|Request)\b")
_NICENESS = "RAY_worker_niceness"
_OBJECT_STORE_BYTES = 256 * 1024**2


def start_cluster(
    settings: Settings, num_cpus: int, object_store_bytes: int = _OBJECT_STORE_BYTES
) -> None:
    """Start Ray, the HTTP front and, where it is wanted, the gRPC front."""
    os.environ.setdefault(_NICENESS, RAY_ENVIRONMENT[_NICENESS])
    ray.init(
        address="local",
        num_cpus=num_cpus,
        object_store_memory=object_store_bytes,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(
        proxy_location=ProxyLocation.HeadOnly,
        http_options={"host": settings.server.host, "port": settings.server.port},
        grpc_options=grpc_options(settings.server),
        logging_config=quiet_logging(settings),
    )


def quiet_logging(settings: Settings) -> LoggingConfig:
    """Ray Serve's own lines in the form of ours; its access log would repeat ours."""
    encoding = settings.log.format.upper()
    return LoggingConfig(log_level="WARNING", enable_access_log=False, encoding=encoding)


def grpc_options(server: ServerSettings) -> dict[str, object] | None:
    """Ray Serve's gRPC proxy, if there is to be one; it adds the reflection service itself."""
    if not server.grpc_port:
        return None
    return {
        "port": server.grpc_port,
        "grpc_servicer_functions": ["app.grpc_services.add_services"],
    }


def run_app(settings: Settings) -> None:
    """Deploy the application; returns when its replicas run. Raises EngineFailed with the cause."""
    quiet = quiet_logging(settings)
    try:
        serve.run(build(settings), name=_APP_NAME, route_prefix="/", logging_config=quiet)
    except RuntimeError as error:
        deployments = serve.status().applications[_APP_NAME].deployments
        messages = {name: part.message for name, part in deployments.items()}
        why = why_failed(messages) or str(error)
        raise EngineFailed(f"{why} (logs: {logs_folder()})") from error


def why_failed(messages: Mapping[str, str]) -> str:
    """Each failed deployment with the last line of its constructor's traceback."""
    causes = []
    for name, message in messages.items():
        lines = [line for line in message.splitlines() if _EXCEPTION.match(line)]
        if lines:
            causes.append(f"{name}: {lines[-1]}")
    return "; ".join(causes)


def logs_folder() -> str:
    """Where Ray keeps what its processes printed; Ray has no public way to ask."""
    path: str = ray._private.worker.global_worker.node.get_logs_dir_path()
    return path


def stop_serve() -> None:
    """End the application and the HTTP front."""
    serve.shutdown()


def stop_cluster() -> None:
    """End Ray."""
    ray.shutdown()


def num_cpus_needed(settings: Settings) -> int:
    """What as many replicas as there may be reserve, or what the machine has, if that is more."""
    reserved = sum(
        (model.scaling.max_replicas or model.num_replicas) * model.num_cpus
        for model in settings.served_models
    )
    return max(os.cpu_count() or 1, int(reserved + 1))
