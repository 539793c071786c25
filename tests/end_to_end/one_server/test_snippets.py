"""The documents' code that needs a server, page by page, as a reader types it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToJson
from safetensors.numpy import load, save_file

from flora.tensor_file import METADATA_KEY
from tests.docs.reader import Reader
from tests.docs.snippets import PAGES, Snippet, snippets_of
from tests.end_to_end.echo_server import BASE, EchoServer
from tests.end_to_end.one_server.reflected import ReflectedClient

pytestmark = [pytest.mark.ray, pytest.mark.redis, pytest.mark.slow]

NAMES = ("pirate", "my-adapter", "old-adapter")
NUM_VERSIONS = 4


def runs_here(snippet: Snippet) -> bool:
    return bool(snippet.needs_server and not snippet.reason)


HERE = [page for page in PAGES if any(map(runs_here, snippets_of(page)))]


@pytest.fixture(scope="module", autouse=True)
def _published(server: EchoServer) -> None:
    for name in NAMES:
        for seed in range(NUM_VERSIONS):
            assert server.publish(name, seed).status_code == 200


@pytest.fixture
def files(server: EchoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the pages name, and a shell that knows the server's stores."""
    weights, config = server.adapter(seed=50)
    for folder in (tmp_path, tmp_path / "my-adapter", tmp_path / "loud"):
        folder.mkdir(exist_ok=True)
        (folder / "adapter_model.safetensors").write_bytes(weights)
        (folder / "adapter_config.json").write_bytes(config)
    metadata = {METADATA_KEY: config.decode()}
    save_file(load(weights), tmp_path / "pirate.safetensors", metadata)
    (tmp_path / "flora.toml").write_text(
        f'[cache]\nredis_url = "{server.valkey.url}"\n'
        f'object_store_url = "{server.object_store_url}"\n'
    )
    monkeypatch.setenv("FLORA_CACHE__REDIS_URL", server.valkey.url)
    monkeypatch.setenv("FLORA_CACHE__OBJECT_STORE_URL", server.object_store_url)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def reader(port_and_server: tuple[int, EchoServer], files: Path) -> Reader:
    port, server = port_and_server
    rewrites = {
        r"http://127\.0\.0\.1:8000": server.url,
        r"127\.0\.0\.1:9000": f"127.0.0.1:{port}",
        r"redis://cache\.example\.org:6379/0": server.valkey.url,
        r"(?<!models/)smollm2-135m-instruct": BASE,
    }
    return Reader(files, rewrites, {"grpcurl": grpcurl}, ["--url", server.url])


def grpcurl(words: Sequence[str]) -> str:
    """What the pages use of it: `-plaintext [-d JSON] ADDRESS list|METHOD`."""
    assert words[1] == "-plaintext"
    body = json.loads(words[3]) if words[2] == "-d" else {}
    address, path = words[-2:]
    with grpc.insecure_channel(address) as channel:
        client = ReflectedClient(address, channel)
        if path == "list":
            return "\n".join(sorted(client.services()))
        answer: Any = client.start(path, body)
        messages = list(answer) if client.method(path).server_streaming else [answer]
        return "\n".join(map(MessageToJson, messages))


def test_the_stand_in_for_grpcurl_asks_the_server(reader: Reader) -> None:
    address = reader.rewrites[r"127\.0\.0\.1:9000"]
    services = grpcurl(["grpcurl", "-plaintext", address, "list"])
    assert "flora.v1.Adapters" in services.splitlines()


@pytest.mark.parametrize("page", HERE, ids=lambda page: page.name)
def test_blocks_run(page: Path, reader: Reader) -> None:
    for snippet in filter(runs_here, snippets_of(page)):
        assert reader.run(snippet) is not None
