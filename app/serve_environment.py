"""What Ray Serve's processes read from their environment: on this machine and on a cluster."""

import math

from app.http_unavailable import PROXY_CALLBACK

_LAST_WORDS_S = 5.0  # a request whose time is up is still told so
_MAX_HAPROXY_THREADS = 4

RAY_ENVIRONMENT = {
    # Ten turns a second cost a twentieth of a processor, and decide nothing sooner that matters.
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
    # A record of every call, which only Ray's dashboard shows.
    "RAY_task_events_report_interval_ms": "0",
    # One event loop in each process, as nothing of ours blocks it: no hand-over for every message.
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    # From door to replica directly, and not as objects that Ray keeps count of.
    "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",
    # Ray's workers give way to every other process (niceness 15); here they are the server.
    "RAY_worker_niceness": "0",
}
"""Ours wherever Ray runs, unless the environment says otherwise."""


def proxy_environment() -> dict[str, str]:
    """What every proxy is told."""
    return {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": PROXY_CALLBACK,
    }


def haproxy_options(num_cpus: int, request_timeout_s: float) -> dict[str, str]:
    """HAProxy before the ingress, with time for the requests that it has when it is replaced."""
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(math.ceil(request_timeout_s + _LAST_WORDS_S)),
        "RAY_SERVE_HAPROXY_NBTHREAD": str(min(_MAX_HAPROXY_THREADS, num_cpus)),
    }


def grpc_message_limit(max_message_bytes: int) -> dict[str, str]:
    """The largest gRPC message."""
    return {"RAY_SERVE_GRPC_MAX_MESSAGE_SIZE": str(max_message_bytes)}


def cluster_environment(
    num_cpus: int, request_timeout_s: float, grpc_max_message_bytes: int
) -> dict[str, str]:
    """All that the nodes of a cluster need where each has its own network: no ports, no paths.

    `num_cpus` are those of a node that has a proxy.
    """
    return (
        RAY_ENVIRONMENT
        | proxy_environment()
        | haproxy_options(num_cpus, request_timeout_s)
        | grpc_message_limit(grpc_max_message_bytes)
    )
