"""A server as a user starts it, for benchmarks: `flora serve` on a free port, ended afterwards."""

import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
from rich.console import Console

_READY_S = 240.0


@contextmanager
def served(model: Path, folder: Path, console: Console, *options: str) -> Iterator[str]:
    """A ready server's URL; its store is its own. Raises RuntimeError if it does not come."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "app.cli", "serve", "--port", str(port), "--model", str(model)]
    command += ["--set", f"cache.valkey_dir={folder / 'valkey'}"]
    command += ["--set", f"cache.node_cache_dir={folder / 'node'}", *options]
    log = folder / "serve.log"
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        with console.status("starting the server"):
            wait_ready(url, server, log)
        yield url
    finally:
        server.terminate()
        server.wait(30)


def wait_ready(
    url: str, server: "subprocess.Popen[bytes]", log: Path, path: str = "/readyz"
) -> None:
    """Returns when `path` answers with 200. Raises RuntimeError with the end of the log."""
    deadline_s = time.monotonic() + _READY_S
    while time.monotonic() < deadline_s:
        if server.poll() is not None:
            break
        try:
            if httpx.get(f"{url}{path}", timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    raise RuntimeError(f"the server did not get ready:\n{log.read_text()[-2000:]}")


def free_port() -> int:
    """A TCP port that nobody listens on.

    Below those that the system gives to whoever asks for any: a server that binds it half a minute
    later, when many others have started, still finds it free.
    """
    for port in random.sample(range(20_000, 32_000), 200):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no TCP port is free")
