"""What Ray Serve's gRPC side is told by the environment, which it reads when it is imported."""

from collections.abc import Callable

from app.serve_environment import grpc_message_limit

_NUM_PORTS = 64


def grpc_environment(max_message_bytes: int, free_port: Callable[[], int]) -> dict[str, str]:
    """Variables for Ray Serve: the largest message, and ports of this start's own.

    Ray Serve 2.60 means to bind its gRPC ports alone, but hands the option over as text, which
    gRPC ignores: a second server would share the first one's ports and get its calls.
    """
    first_port = free_port()
    return grpc_message_limit(max_message_bytes) | {
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(free_port()),
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(first_port),
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(min(first_port + _NUM_PORTS, 65536)),
    }
