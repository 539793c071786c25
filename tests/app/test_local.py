"""`flora serve` as a process: a whole server with an engine that needs no model, and its end."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import httpx
import openai
import psutil  # type: ignore[import-untyped]
import pytest

from adapter_cache.valkey_server import ValkeyServer
from app.config import DEFAULT_MODEL
from app.local import (
    haproxy_environment,
    interruptible,
    keep_running,
    require_free_port,
    require_model,
)
from contracts.errors import InvalidRequest, NotReady, StoreUnavailable
from flora.adapter_files import write_adapter
from flora.layout import AdapterLayout
from replicas.echo_engine import EchoEngine
from tests.app.parts import make_tokenizer
from tests.flora.adapters import make_adapter


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def write_demo(folder: Path) -> Path:
    """An adapter "one" for the echo engine's layout."""
    layout = AdapterLayout.from_json(asyncio.run(EchoEngine().start()).layout_json)
    weights, config = write_adapter(make_adapter(layout), "float32")
    (folder / "one").mkdir(parents=True)
    (folder / "one" / "adapter_model.safetensors").write_bytes(weights)
    (folder / "one" / "adapter_config.json").write_bytes(config)
    return folder


@contextmanager
def running(folder: Path, port: int, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """`flora serve`, ready; killed with all its children if a test leaves it running."""
    make_tokenizer().save_pretrained(folder / "tiny")
    command = [sys.executable, "-m", "app.cli", "serve", "--engine", "echo", "--port", str(port)]
    command += ["--model", str(folder / "tiny"), "--set", f"cache.valkey_dir={folder / 'valkey'}"]
    command += ["--set", f"cache.node_cache_dir={folder / 'rows'}", *words]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert server.stdout is not None
        lines = []
        while "ready after" not in (line := server.stdout.readline()):
            lines.append(line)
            assert line, "".join(lines)
        yield server
    finally:
        if server.poll() is None:
            for process in psutil.Process(server.pid).children(recursive=True):
                process.kill()
        server.kill()
        server.wait()
        assert server.stdout is not None
        server.stdout.close()


def kill_valkey(server: "subprocess.Popen[str]") -> None:
    (valkey,) = [
        child for child in psutil.Process(server.pid).children() if "valkey" in child.name()
    ]
    valkey.kill()
    valkey.wait(5)


def until_ready(url: str, limit_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + limit_s
    while httpx.get(f"{url}/readyz", timeout=10).status_code != 200:
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


def stop(server: "subprocess.Popen[str]", how: signal.Signals) -> float:
    """Seconds until the server and every process that it started are gone."""
    started = psutil.Process(server.pid).children(recursive=True)
    assert len(started) > 5
    began_s = time.monotonic()
    os.kill(server.pid, how)
    server.wait(20)
    taken_s = time.monotonic() - began_s
    assert [p for p in started if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []
    return taken_s


@pytest.mark.ray
@pytest.mark.redis
@pytest.mark.slow
def test_a_whole_server_answers_ends_and_starts_again(tmp_path: Path) -> None:
    port, demo = free_port(), write_demo(tmp_path / "demo")
    url = f"http://127.0.0.1:{port}"
    with running(tmp_path, port, "--demo", str(demo)) as server:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        assert [m.id for m in client.models.list()] == ["tiny", "tiny:one"]
        texts = []
        for model in ("tiny", "tiny:one"):
            stream = client.completions.create(model=model, prompt="ab", max_tokens=2, stream=True)
            texts.append("".join(chunk.choices[0].text for chunk in stream))
        digest = httpx.get(f"{url}/v1/adapters/one").json()["digest"]
        assert texts[0] != texts[1]
        assert digest[:8] in texts[1]
        with pytest.raises(openai.NotFoundError):
            client.completions.create(model="tiny:two", prompt="ab")
        client.close()
        with pytest.raises(NotReady, match=str(port)):
            require_free_port("127.0.0.1", port)
        assert stop(server, signal.SIGTERM) < 10
    with running(tmp_path, port, "--no-haproxy") as server:
        kill_valkey(server)
        until_ready(url)
        answer = httpx.get(f"{url}/v1/models").json()
        assert [m["id"] for m in answer["data"]] == ["tiny", "tiny:one"]
        assert stop(server, signal.SIGINT) < 10


class Mortal:
    """A Valkey that dies as soon as it was started."""

    is_running = False
    log_path = Path("valkey.log")
    num_starts = 0

    def restart(self) -> None:
        self.num_starts += 1


def test_a_valkey_that_keeps_dying_ends_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.local._POLL_S", 0.0)
    mortal = Mortal()
    with pytest.raises(StoreUnavailable, match="keeps ending"):
        keep_running(cast(ValkeyServer, mortal))
    assert mortal.num_starts == 2


def test_a_port_in_use_is_a_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(NotReady, match=f"127.0.0.1:{port}.*--port"):
            require_free_port("127.0.0.1", port)
    require_free_port("127.0.0.1", port)


@pytest.mark.parametrize("model", ["/no/such/folder", "./no", DEFAULT_MODEL])
def test_a_missing_model_is_a_clear_error(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidRequest, match=model):
        require_model(model)
    require_model("org/name")


def test_the_first_signal_interrupts_and_later_ones_do_not_disturb_the_end() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with interruptible():
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


def test_haproxy_has_files_and_ports_of_its_own(tmp_path: Path) -> None:
    off = haproxy_environment(False, tmp_path, 2, 60.0)
    on = haproxy_environment(True, tmp_path, 2, 60.5)
    assert "RAY_SERVE_ENABLE_HA_PROXY" not in off
    assert off["RAY_USAGE_STATS_ENABLED"] == "0"
    assert on["RAY_SERVE_HAPROXY_SOCKET_PATH"].startswith(str(tmp_path))
    # Less, and a change of backends would cut answers short.
    assert on["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"] == "66"
    ports = [value for name, value in on.items() if name.endswith("_PORT")]
    assert len(set(ports)) == len(ports) == 3
