"""One server for the files of this folder: it takes longer to start than they take."""

from collections.abc import Iterator

import pytest

from benchmarks.served import free_port
from tests.end_to_end.echo_server import EchoServer, echo_server

STEP_S = 0.02


@pytest.fixture(scope="package")
def port_and_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, EchoServer]]:
    """The port of gRPC, and the server."""
    port = free_port()
    options = ["--set", f"server.grpc_port={port}", "--set", "server.grpc_max_message_bytes=100000"]
    with echo_server(tmp_path_factory.mktemp("serve"), STEP_S, *options) as server:
        yield port, server


@pytest.fixture(scope="package")
def server(port_and_server: tuple[int, EchoServer]) -> EchoServer:
    """The server."""
    return port_and_server[1]
