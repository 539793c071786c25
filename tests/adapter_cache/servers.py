"""Real servers on the loopback: each Redis that is found, a cluster. And clients of them."""

import asyncio
import itertools
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, RedisError

from adapter_cache.redis_connect import RedisClients
from adapter_cache.valkey_server import _die_with_parent, find_binary

_HOST = "127.0.0.1"
_SLOTS = 16384
_NUMBERS = itertools.count()
SERVERS = [
    pytest.param(kind, marks=pytest.mark.redis)
    for kind in ("valkey", "cluster", *(["other"] if shutil.which("redis-server") else []))
]
"""The kinds of server that there are on this machine; each has a fixture `<kind>_url`."""


def free_ports(number: int) -> list[int]:
    """Distinct ports that nobody listens on, each with its cluster port free too."""
    with ExitStack() as stack:
        ports: list[int] = []
        while len(ports) < number:
            probe = stack.enter_context(socket.socket())
            probe.bind((_HOST, 0))
            # A node of a cluster takes the port 10000 above its own too.
            if probe.getsockname()[1] < 55_000:
                ports.append(probe.getsockname()[1])
        return ports


def wait_until(done: Callable[[], object], limit_s: float = 20.0) -> None:
    """Poll until `done`, which may raise what a starting server answers."""
    deadline_s = time.monotonic() + limit_s
    while True:
        try:
            if done():
                return
        except RedisError:
            # Not ready yet.
            pass
        assert time.monotonic() < deadline_s, "the server is not ready"
        time.sleep(0.02)


@contextmanager
def running(
    binary: str, directory: Path, port: int, *flags: str, first: tuple[str, ...] = ()
) -> Iterator[int]:
    """A server on `port` that keeps nothing, with `flags` of the command line.

    `first` comes before all flags: a file of settings, or what else the server is to be.
    """
    directory.mkdir(parents=True, exist_ok=True)
    sentinel = "--sentinel" in first
    command = [binary, *first, "--port", str(port), "--bind", _HOST]
    if not sentinel:
        command += ["--save", "", *flags]
    process = subprocess.Popen(
        [*command, "--dir", str(directory), "--logfile", "server.log"],
        stdin=subprocess.DEVNULL,
        preexec_fn=_die_with_parent(),
    )
    try:
        with Redis(port=port) as probe:
            wait_until(lambda: _answers(probe))
        yield port
    finally:
        process.kill()
        process.wait()


def _answers(probe: Redis) -> bool:
    try:
        return bool(probe.ping())
    except AuthenticationError:
        # It is there, and asks for a password.
        return True


@contextmanager
def running_cluster(directory: Path) -> Iterator[list[int]]:
    """Three primaries that share the slots."""
    ports = free_ports(3)
    flags = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
    with ExitStack() as stack:
        for port in ports:
            stack.enter_context(running(str(find_binary()), directory / str(port), port, *flags))
        nodes = [stack.enter_context(Redis(port=port)) for port in ports]
        for number, node in enumerate(nodes):
            first, last = (_SLOTS * part // len(nodes) for part in (number, number + 1))
            _command(node, "CLUSTER", "ADDSLOTSRANGE", first, last - 1)
            _command(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for port in ports[1:]:
            _command(nodes[0], "CLUSTER", "MEET", _HOST, port)
        wait_until(lambda: all(_is_whole(node) for node in nodes))
        yield ports


def _is_whole(node: Redis) -> bool:
    return b"cluster_state:ok" in _command(node, "CLUSTER", "INFO")


def _command(server: Redis, *words: str | int) -> bytes:
    """The raw answer, which commands of this rank have no method for."""
    answer: bytes = server.execute_command(*words)  # type: ignore[no-untyped-call]
    return answer


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    [port] = free_ports(1)
    with running(str(find_binary()), tmp_path_factory.mktemp("valkey"), port):
        yield f"redis://{_HOST}:{port}/0"


@pytest.fixture(scope="session")
def other_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Whatever redis-server is installed on the machine."""
    [port] = free_ports(1)
    binary = shutil.which("redis-server")
    assert binary
    with running(binary, tmp_path_factory.mktemp("redis"), port):
        yield f"redis://{_HOST}:{port}/0"


@pytest.fixture(scope="session")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_cluster(tmp_path_factory.mktemp("cluster")) as ports:
        yield "redis+cluster://" + ",".join(f"{_HOST}:{port}" for port in ports)


@pytest.fixture(params=SERVERS)
def redis_url(request: pytest.FixtureRequest) -> str:
    """Each kind of server in turn."""
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


@pytest.fixture
async def clients(redis_url: str) -> AsyncIterator[RedisClients]:
    connected = RedisClients.connect(redis_url)
    yield connected
    await connected.close()


@pytest.fixture
def prefix() -> str:
    """No two tests share keys."""
    return f"test-{next(_NUMBERS)}"


async def eventually(done: Callable[[], Awaitable[object]], limit_s: float = 10.0) -> None:
    """Poll until `done`."""
    async with asyncio.timeout(limit_s):
        while not await done():  # noqa: ASYNC110  # the server says nothing by itself
            await asyncio.sleep(0.005)
