"""Which folders are adapters, and that the snippets are what they look like."""

import shlex
from pathlib import Path

import orjson
import pytest
from google.protobuf.json_format import ParseDict
from rich.console import Console

from app.api_client import ApiClient
from app.demo_adapters import find_adapters, grpc_snippet, publish_adapters, snippets
from app.protos.flora.v1.flora_pb2 import GenerateRequest
from contracts.errors import CallerError, InvalidAdapter, NotReady
from tests.app.serving import serving_in_a_thread
from tests.flora.adapters import make_bytes


def write(folder: Path, name: str) -> None:
    weights, config = make_bytes()
    (folder / name).mkdir()
    (folder / name / "adapter_model.safetensors").write_bytes(weights)
    (folder / name / "adapter_config.json").write_bytes(config)


def test_folders_with_a_config_are_published_by_name(tmp_path: Path) -> None:
    write(tmp_path, "b")
    write(tmp_path, "a")
    (tmp_path / "notes").mkdir()
    assert [path.name for path in find_adapters(tmp_path)] == ["a", "b"]
    with serving_in_a_thread() as url, ApiClient(url) as api:
        api.require_ready()
        assert publish_adapters(api, tmp_path, Console(quiet=True)) == ["a", "b"]
        assert [entry["name"] for entry in api.adapters(page_size=1)] == ["a", "b"]
        with pytest.raises(CallerError, match="does not exist"):
            api.show("absent")


def test_a_folder_without_adapters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidAdapter, match="adapter_config"):
        find_adapters(tmp_path)


def test_no_server_is_not_ready() -> None:
    with ApiClient("http://127.0.0.1:1") as api, pytest.raises(NotReady):
        api.require_ready()


def test_the_snippets_can_be_pasted() -> None:
    text = snippets("http://h:1", "tiny", ["a", "b"])
    shell, python = text.strip().split("\n\n")
    words = shlex.split(shell.replace("'$model'", "MODEL"))
    assert words[:6] == ["for", "model", "in", "tiny", "tiny:a", "tiny:b;"]
    curl = words[words.index("curl") :]
    assert curl[:3] == ["curl", "-s", "http://h:1/v1/chat/completions"]
    assert orjson.loads(curl[curl.index("-d") + 1].rstrip(";"))["model"] == "MODEL"
    compile(python, "snippet", "exec")


def test_the_grpc_snippet_can_be_pasted() -> None:
    words = shlex.split(grpc_snippet("h:2", "tiny:a", needs_key=True))
    assert words[:2] == ["grpcurl", "-plaintext"]
    body = ParseDict(orjson.loads(words[words.index("-d") + 1]), GenerateRequest())
    assert (body.model, body.sampling.max_tokens) == ("tiny:a", 40)
    assert words[-2:] == ["h:2", "flora.v1.Generation/GenerateStream"]
    assert "authorization" not in grpc_snippet("h:2", "tiny")
