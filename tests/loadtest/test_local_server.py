import subprocess
import sys
import time
from collections.abc import Iterator

import psutil  # type: ignore[import-untyped]
import pytest

from benchmarks.served import free_port
from loadtest.local_server import LocalServer
from tests.loadtest.loads import rng

_PARENT = """
import subprocess, sys
child = [sys.executable, "-c", "import sys; sys.stdin.read()", "ServeReplica:flora:replica"]
with subprocess.Popen(child, stdin=subprocess.PIPE) as running:
    print("up", flush=True)
    sys.stdin.read()
    running.kill()
"""


@pytest.fixture
def port() -> Iterator[int]:
    """Of something that looks like a server with one replica."""
    port = free_port()
    command = [sys.executable, "-c", _PARENT, "serve", "--port", str(port)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"up\n"
        yield port
        running.communicate()


def test_it_is_found_read_and_robbed_of_its_replica(port: int) -> None:
    server = LocalServer.find(port)
    roles = {reading.role: reading for reading in server.read(3.0)}
    assert roles["replica"].rss_bytes > 0
    assert roles["replica"].at_s == 3.0
    pid = int(server.kill_replica(rng()).removeprefix("replica "))
    deadline_s = time.monotonic() + 5
    while is_alive(pid) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert not is_alive(pid)


def is_alive(pid: int) -> bool:
    return bool(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)


def test_where_nobody_serves_nobody_is_found() -> None:
    with pytest.raises(LookupError, match="--server-pid"):
        LocalServer.find(free_port())
