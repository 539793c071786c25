"""A whole server with an engine that needs no model, over a Valkey that a test may kill."""

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import psutil  # type: ignore[import-untyped]
from rich.console import Console

from adapter_cache.valkey_server import ValkeyServer
from benchmarks.served import served
from flora.adapter_files import write_adapter
from flora.layout import AdapterLayout
from replicas.echo_engine import EchoEngine
from tests.app.parts import make_tokenizer
from tests.flora.adapters import make_adapter

BASE = "tiny"
PROMPT = [7, 8, 9]


class EchoServer:
    """The server's address, and the Valkey that it uses."""

    def __init__(self, url: str, folder: Path, valkey: ValkeyServer) -> None:
        self.url = url
        self.valkey = valkey
        self.http = httpx.Client(base_url=url, timeout=30)
        self._folder = folder
        self._layout = AdapterLayout.from_json(asyncio.run(EchoEngine().start()).layout_json)
        self._num_valkeys = 1

    @property
    def object_store_url(self) -> str:
        return object_store_url(self._folder)

    def adapter(self, seed: int) -> tuple[bytes, bytes]:
        """Weights and config of an adapter for this engine."""
        return write_adapter(make_adapter(self._layout, seed=seed), "float32")

    def publish(self, name: str, seed: int, model: str = "") -> httpx.Response:
        weights, config = self.adapter(seed)
        files = {"c": ("adapter_config.json", config), "w": ("a.safetensors", weights)}
        params = {"model": model} if model else {}
        return self.http.put(f"/v1/adapters/{name}", files=files, params=params)

    def ask(self, name: str = "", max_tokens: int = 1) -> httpx.Response:
        body = body_of(name, max_tokens, stream=False)
        return self.http.post("/v1/completions", json=body)

    def kill_valkey(self) -> None:
        self.signal_valkey(signal.SIGKILL)
        self.valkey.stop()

    def signal_valkey(self, number: signal.Signals) -> None:
        self.valkey._process.send_signal(number)

    def restart_valkey(self, *, empty: bool = False) -> None:
        """Bring it back where it was, with or without what it knew."""
        directory = self.valkey.directory
        if empty:
            directory = self._folder / f"valkey-{self._num_valkeys}"
            self._num_valkeys += 1
        self.valkey = ValkeyServer.start(directory, self.valkey.port)

    def close(self) -> None:
        self.valkey.stop()
        self.http.close()

    def gauge(self, name: str) -> float:
        """One number of the server's metrics."""
        return sum(self.gauges(name))

    def gauges(self, name: str) -> list[float]:
        """One number of the server's metrics, of each replica that has it."""
        lines = self.http.get("/metrics").text.splitlines()
        found = [line.split()[-1] for line in lines if line.split()[0].partition("{")[0] == name]
        return [float(number) for number in found]


@contextmanager
def echo_server(folder: Path, step_s: float, *words: str) -> Iterator[EchoServer]:
    """A ready server; a token takes the engine `step_s`. `words` are options of `flora serve`."""
    make_tokenizer().save_pretrained(folder / BASE)
    valkey = ValkeyServer.start(folder / "valkey-0")
    options = {
        "replica.engine": "echo",
        "replica.echo_step_s": step_s,
        "cache.redis_url": valkey.url,
        "cache.object_store_url": object_store_url(folder),
    }
    flags = [part for name, value in options.items() for part in ("--set", f"{name}={value}")]
    with ExitStack() as stack:
        stack.callback(valkey.stop)
        console = Console(file=sys.stderr)
        url = stack.enter_context(served(folder / BASE, folder, console, *flags, *words))
        server = EchoServer(url, folder, valkey)
        stack.callback(server.close)
        yield server


def object_store_url(folder: Path) -> str:
    return f"file://{folder / 'objects'}"


def body_of(name: str, max_tokens: int, *, stream: bool) -> dict[str, Any]:
    model = f"{BASE}:{name}" if name else BASE
    return {"model": model, "prompt": PROMPT, "max_tokens": max_tokens, "stream": stream}


class Stream:
    """One streamed answer as it comes: its text, its error event, and whether it ended properly."""

    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body
        self.has_begun = asyncio.Event()
        self.status = 0
        self.text = ""
        self.error: dict[str, Any] | None = None
        self.is_done = False

    async def read(self, client: httpx.AsyncClient) -> None:
        async with client.stream("POST", "/v1/completions", json=self.body) as answer:
            self.status = answer.status_code
            async for line in answer.aiter_lines():
                self._take(line)
                self.has_begun.set()

    def _take(self, line: str) -> None:
        if line == "data: [DONE]":
            self.is_done = True
        elif line.startswith("data: "):
            event = orjson.loads(line.removeprefix("data: "))
            self.error = event.get("error", self.error)
            for choice in event.get("choices", ()):
                self.text += choice["text"]


async def reading(url: str, streams: list[Stream]) -> "asyncio.Task[None]":
    """A task that reads all streams to their ends; returns once each has begun."""

    async def read_all() -> None:
        limits = httpx.Limits(max_connections=len(streams))
        async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
            await asyncio.gather(*(stream.read(client) for stream in streams))

    task = asyncio.create_task(read_all())
    async with asyncio.timeout(60):
        await asyncio.gather(*(stream.has_begun.wait() for stream in streams))
    return task


def replica_processes(url: str) -> list[psutil.Process]:
    """The processes of engine replicas of the server that this test has started at `url`."""
    return processes_of(url, "replica")


def processes_of(url: str, deployment: str) -> list[psutil.Process]:
    """Those of one deployment: "door" is the ingress, "replica" the engines."""
    port = url.rpartition(":")[2]
    children = psutil.Process().children()
    server = next(p for p in children if {"serve", "--port", port} <= set(_cmdline(p)))
    family = server.children(recursive=True)
    return [p for p in family if f"ServeReplica:flora:{deployment}" in " ".join(_cmdline(p))]


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        line: list[str] = process.cmdline()
    except psutil.NoSuchProcess:
        return []
    return line
