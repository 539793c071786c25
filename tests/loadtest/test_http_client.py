import time
from collections.abc import Iterator

import pytest

from benchmarks.served import free_port
from loadtest.dialects import DIALECTS
from loadtest.http_client import HttpClient
from loadtest.outcome import Outcome, Stopwatch
from loadtest.target import BROKEN, SHORT, TIMEOUT, UNREACHABLE, Request
from tests.loadtest.http_server import DONE, ERROR, EVENT, USAGE, CannedServer, canned_server
from tests.loadtest.loads import make_ask


@pytest.fixture
def server() -> Iterator[CannedServer]:
    with canned_server() as server:
        yield server


def ask(url: str, num_tokens: int = 3, timeout_s: float = 5.0, key: str = "") -> Outcome:
    client = HttpClient(url, DIALECTS["openai"], timeout_s)
    found = ask_with(client, num_tokens, key)
    client.close()
    return found


def ask_with(client: HttpClient, num_tokens: int = 3, key: str = "") -> Outcome:
    watch = Stopwatch(time.perf_counter, time.perf_counter(), 0.0)
    code = client.stream(Request("m", (1, 2), num_tokens, key), watch)
    return watch.stop(make_ask(), code)


def test_a_whole_stream(server: CannedServer) -> None:
    server.pause_s = 0.02
    found = ask(server.url, key="secret")
    assert (found.code, found.num_tokens, len(found.gaps_s)) == ("ok", 3, 2)
    assert min(found.gaps_s) > 0.01
    assert found.ttft_s is not None
    assert found.ttft_s < found.total_s - 0.06
    assert server.keys == ["Bearer secret"]


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ([EVENT, EVENT, ERROR, DONE], "engine_failed"),
        ([EVENT, EVENT, EVENT, USAGE], BROKEN),
        ([EVENT, None], BROKEN),
        ([b"data: nonsense\n\n", DONE], BROKEN),
        ([EVENT[:9], EVENT[9:] + EVENT[:20], EVENT[20:] + EVENT + USAGE + DONE], "ok"),
        ([b": a comment\n\n", EVENT.replace(b"\n", b"\r\n"), USAGE, DONE], "ok"),
    ],
)
def test_how_streams_end(server: CannedServer, parts: list[bytes | None], code: str) -> None:
    server.parts = parts
    assert ask(server.url).code == code


def test_fewer_tokens_than_asked_are_no_success(server: CannedServer) -> None:
    assert ask(server.url, num_tokens=4).code == SHORT


def test_a_refusal_has_its_status_and_code(server: CannedServer) -> None:
    server.status, server.parts = 429, [b'{"error": {"code": "rate_limit_exceeded"}}']
    assert ask(server.url).code == "429 rate_limit_exceeded"
    server.status, server.parts = 502, [b"<html>"]
    assert ask(server.url).code == "502 error"


def test_a_slow_answer_ends_in_time(server: CannedServer) -> None:
    server.pause_s = 10.0
    found = ask(server.url, timeout_s=0.2)
    assert found.code == TIMEOUT
    assert 0.2 <= found.total_s < 2


def test_nobody_there() -> None:
    assert ask(f"http://127.0.0.1:{free_port()}").code == UNREACHABLE


def test_connections_are_kept_and_replaced_where_the_server_has_hung_up(
    server: CannedServer,
) -> None:
    client = HttpClient(server.url, DIALECTS["openai"], 5.0)
    assert [ask_with(client).code for _ in range(3)] == ["ok"] * 3
    assert len(server.num_connections) == 1
    server.hangs_up = True
    assert [ask_with(client).code for _ in range(3)] == ["ok"] * 3
    client.close()
    assert len(server.num_connections) == 3


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://x", "http://"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="a server is http"):
        HttpClient(url, DIALECTS["openai"], 1.0)


def test_lorax_streams_are_followed_to_their_own_end(server: CannedServer) -> None:
    token = b'data: {"token": {"id": 1}, "generated_text": null}\n\n'
    last = (
        b'data: {"token": {"id": 1}, "generated_text": "", "details": {"generated_tokens": 3}}\n\n'
    )
    client = HttpClient(server.url, DIALECTS["lorax"], 5.0)
    server.parts = [token, token, last]
    found = ask_with(client)
    assert (found.code, found.num_tokens, len(found.gaps_s)) == ("ok", 3, 2)
    server.parts = [token, b'data: {"error": "x", "error_type": "generation"}\n\n']
    assert ask_with(client).code == "generation"
    client.close()
