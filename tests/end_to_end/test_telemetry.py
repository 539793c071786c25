"""What a whole server says of what it does: one trace, a line and a record each, and no secret."""

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil  # type: ignore[import-untyped]
import pytest
from typer.testing import CliRunner

from app import cli
from app.grpc_services import caller_of
from app.protos.flora.v1 import flora_pb2 as pb
from benchmarks.served import free_port
from tests.app.canaries import ANSWER, CANARY, answered, chat, odd, refused
from tests.app.collector import Collector, collecting
from tests.app.grpc_parts import METHODS
from tests.end_to_end.echo_server import BASE, EchoServer, echo_server

pytestmark = [pytest.mark.ray, pytest.mark.redis, pytest.mark.slow]

DOCS = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
TRACE = "0af7651916cd43dd8448eb211c80319c"
SENT = f"00-{TRACE}-b7ad6b7169203331-01"


class Telemetry:
    """A server with keys, its collector, and the folder of its logs."""

    def __init__(
        self, server: EchoServer, key: str, port: int, folder: Path, spans: Collector
    ) -> None:
        self.key = key
        self.folder = folder
        self.collector = spans
        self.http = httpx.Client(base_url=server.url, timeout=30)
        self.http.headers["authorization"] = f"Bearer {key}"
        self.server = server
        self.grpc = grpc.insecure_channel(f"127.0.0.1:{port}")

    def lines(self) -> list[dict[str, Any]]:
        """All lines of all processes; each of them must be JSON."""
        paths = sorted(self.folder.glob("logs/*.log*"))
        return [json.loads(line) for path in paths for line in path.read_text().splitlines()]

    def everything(self) -> dict[str, str]:
        """Each text that the server has left anywhere, by where it is."""
        # An earlier process may have had this number: the later folder is this server's.
        session = max(Path("/tmp/ray").glob(f"session_*_{serving_pid(self.server.url)}"))
        paths = [*self.folder.glob("logs/*"), self.folder / "serve.log"]
        paths += [path for path in session.glob("logs/**/*") if path.is_file()]
        texts = {str(path): path.read_text(errors="replace") for path in paths}
        texts["/metrics"] = self.http.get("/metrics").text
        texts["spans"] = self.collector.raw.decode(errors="replace")
        texts["usage"] = "\n".join(json.dumps(record) for record in self.usage())
        return texts

    def usage(self) -> list[dict[str, Any]]:
        url = self.server.valkey.url
        result = CliRunner().invoke(cli.app, ["usage", "export", "--set", f"cache.redis_url={url}"])
        assert result.exit_code == 0, result.output
        return [json.loads(line) for line in result.stdout.splitlines()]


def serving_pid(url: str) -> int:
    port = url.rpartition(":")[2]
    children = psutil.Process().children()
    found = [p.pid for p in children if {"serve", "--port", port} <= set(p.cmdline())]
    assert len(found) == 1
    pid: int = found[0]
    return pid


def until(done: Callable[[], object], limit_s: float = 15.0) -> None:
    deadline_s = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < deadline_s, "it did not come"
        time.sleep(0.05)


def make_key(folder: Path) -> str:
    words = ["keys", "create", "--tenant", "acme", "--scope", "admin", "--json"]
    words += ["--set", f"cache.valkey_dir={folder / 'valkey-0'}"]
    words += ["--set", f"cache.object_store_url=file://{folder / 'objects'}"]
    result = CliRunner().invoke(cli.app, words)
    assert result.exit_code == 0, result.output
    secret: str = json.loads(result.stdout)["key"]
    return secret


@pytest.fixture(scope="module")
def telemetry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Telemetry]:
    folder = tmp_path_factory.mktemp("serve")
    key, port = make_key(folder), free_port()
    with collecting() as spans:
        options = {
            "auth.required": "true",
            "server.grpc_port": port,
            "log.directory": folder / "logs",
            "log.level": "DEBUG",
            "tracing.otlp_endpoint": spans.url,
            "tracing.sample_ratio": 0.0,
            "usage.flush_s": 0.05,
        }
        words = [word for name, value in options.items() for word in ("--set", f"{name}={value}")]
        with echo_server(folder, 0.005, *words) as server:
            found = Telemetry(server, key, port, folder, spans)
            yield found
            found.http.close()
            found.grpc.close()


def test_a_request_is_one_trace_one_line_and_one_record(telemetry: Telemetry) -> None:
    server = telemetry.server
    server.http.headers["authorization"] = f"Bearer {telemetry.key}"
    assert server.publish("mine", 1).status_code == 200
    body = {"model": f"{BASE}:mine", "prompt": [7, 8, 9], "max_tokens": 5}
    headers = {"traceparent": SENT, "x-request-id": "mine-1"}
    answer = telemetry.http.post("/v1/completions", json=body, headers=headers)
    assert (answer.status_code, answer.headers["x-request-id"]) == (200, "mine-1")

    spans = telemetry.collector
    until(lambda: spans.named("door") and spans.named("replica"))
    assert {span.trace_id for span in spans.spans} == {TRACE}
    named = {span.name: span for span in spans.spans}
    above = {
        name: parent
        for name, span in named.items()
        for parent, other in named.items()
        if other.span_id == span.parent_id
    }
    assert named["door"].parent_id == "b7ad6b7169203331"
    assert above == {
        "window.wait": "door",
        "window.resolve": "door",
        "window.call": "door",
        "replica": "window.call",
        "replica.fetch": "replica",
        "replica.submit": "replica",
        "engine.prefill": "replica",
        "engine.decode": "replica",
    }
    assert {span.service for span in spans.spans} == {"flora-door", "flora-replica"}
    assert named["door"].facts["flora.generated_tokens"] == 5

    until(lambda: any(line.get("request_id") == "mine-1" for line in telemetry.lines()))
    (line,) = (line for line in telemetry.lines() if line.get("request_id") == "mine-1")
    assert (line["tenant"], line["trace_id"], line["status"]) == ("acme", TRACE, "200")
    assert line["answer_id"] == answer.json()["id"]

    until(lambda: len(telemetry.usage()) == 2)
    record, total = telemetry.usage()
    assert record["request_id"].startswith(answer.json()["id"])
    assert (record["tenant"], record["key_id"]) == ("acme", line["key_id"])
    assert (record["num_prompt_tokens"], record["num_generated_tokens"]) == (3, 5)
    assert len(record["digest"]) == 64
    assert total["num_requests"] == 1


def test_the_page_of_metrics_is_as_documented(telemetry: Telemetry) -> None:
    page = telemetry.http.get("/metrics").text
    kinds = dict(re.findall(r"^# TYPE (flora_\w+) (\w+)$", page, re.MULTILINE))
    shown = {
        (name.removesuffix("_total"), kind)
        for name, kind in kinds.items()
        if not name.endswith("_created")
    }
    rows = re.findall(r"^\| `(flora_\w+)` \| (\w+) \|", DOCS.read_text(), re.MULTILINE)
    # Engines that take LoRA adapters have more to show.
    assert {(name, kind) for name, kind in rows if "_lora_" not in name} == shown
    assert 'door="' in page
    assert 'replica="' in page


def test_no_prompt_no_answer_and_no_key_is_in_anything_that_the_server_writes(
    telemetry: Telemetry,
) -> None:
    requests = [*answered(), *odd(), *refused()]
    statuses = [telemetry.http.request(**request).status_code for request in requests]
    assert max(statuses) < 500
    assert statuses.count(200) == len(answered()) + len(odd())
    metadata = (("authorization", f"Bearer {telemetry.key}"), ("traceparent", SENT))
    call = caller_of(telemetry.grpc, METHODS["Generate"])
    told = call(pb.GenerateRequest(model=BASE, text=CANARY), metadata=metadata, timeout=20)
    assert ANSWER in told.choices[0].text
    for bad in (("authorization", f"Bearer {CANARY}"), ("authorization", CANARY)):
        with pytest.raises(grpc.RpcError):
            call(pb.GenerateRequest(model=BASE, text=CANARY), metadata=(bad,), timeout=20)
    body = {"model": BASE, "prompt": CANARY, "max_tokens": 400, "stream": True}
    with telemetry.http.stream("POST", "/v1/completions", json=body) as left:
        next(left.iter_lines())
    traced = {"traceparent": SENT}
    telemetry.http.post("/v1/chat/completions", json=chat(CANARY, max_tokens=9), headers=traced)

    def num_lines() -> int:
        return sum(line["message"] == "request" for line in telemetry.lines())

    until(lambda: num_lines() >= len(statuses) + 5)
    until(lambda: len(telemetry.collector.named("replica")) >= 3)
    texts = telemetry.everything()
    for process in ("door", "replica", "serve"):
        assert any(f"/logs/{process}-" in name for name in texts)
    for secret in (CANARY, ANSWER, telemetry.key, telemetry.key[-16:]):
        found = [name for name, text in texts.items() if secret in text]
        assert found == [], secret
