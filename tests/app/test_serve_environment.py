"""What a server on this machine sets for Ray, the nodes of a cluster are told too."""

from pathlib import Path

from app.grpc_environment import grpc_environment
from app.local import haproxy_environment
from app.serve_environment import RAY_ENVIRONMENT, cluster_environment

OWN_PLACES = (
    # Files and ports of one start among others; the nodes of a cluster have networks of their own.
    "_PORT",
    "_LOC",
    "_PATH",
    "_BASE",
    "_FILE",
    # A server that is stopped here ends at once.
    "_MIN_DRAINING_PERIOD_S",
)


def test_a_cluster_is_told_all_but_the_places_of_one_machine(tmp_path: Path) -> None:
    here = (
        RAY_ENVIRONMENT
        | haproxy_environment(True, tmp_path, 2, 600.0)
        | grpc_environment(4 * 1024**2, lambda: 40000)
    )
    shared = {
        name: value
        for name, value in here.items()
        if name.endswith("_CALLBACK_IMPORT_PATH") or not name.endswith(OWN_PLACES)
    }
    assert cluster_environment(2, 600.0, 4 * 1024**2) == shared


def test_haproxy_gets_no_more_threads_than_it_can_use() -> None:
    assert cluster_environment(1, 60.0, 65536)["RAY_SERVE_HAPROXY_NBTHREAD"] == "1"
    assert cluster_environment(64, 60.0, 65536)["RAY_SERVE_HAPROXY_NBTHREAD"] == "4"
