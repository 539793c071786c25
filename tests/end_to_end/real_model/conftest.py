"""One server with the real model and the demo adapters for all tests of this folder."""

import signal
import sys
import time
from collections.abc import Iterator

import openai
import psutil  # type: ignore[import-untyped]
import pytest
from rich.console import Console

from app.api_client import ApiClient
from app.demo_adapters import publish_adapters
from benchmarks.served import served
from tests.end_to_end.real_model.demo import DEMO, MODEL


@pytest.fixture(scope="package")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address. Its end is checked, too."""
    console = Console(file=sys.stderr)
    folder = tmp_path_factory.mktemp("serve")
    with served(MODEL, folder, console, "--set", "replica.lora_rank=8") as address:
        with ApiClient(address) as api:
            publish_adapters(api, DEMO, console)
        port = address.rpartition(":")[2]
        server = next(
            child
            for child in psutil.Process().children()
            if {"serve", "--port", port} <= set(child.cmdline())
        )
        children = server.children(recursive=True)
        yield address
        began_s = time.monotonic()
        server.send_signal(signal.SIGTERM)
        server.wait(20)
        assert time.monotonic() - began_s < 10
        _, alive = psutil.wait_procs(children, timeout=5)
        assert [child for child in alive if child.status() != "zombie"] == []


@pytest.fixture(scope="package")
def client(url: str) -> Iterator[openai.OpenAI]:
    """The official client, as it comes."""
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        yield client
