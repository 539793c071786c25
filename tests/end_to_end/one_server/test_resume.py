"""Streams that break off through a whole server: the client's next request has the rest."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import httpx
import openai
import psutil  # type: ignore[import-untyped]
import pytest

from app.grpc_services import caller_of
from app.protos.flora.v1 import flora_pb2 as pb
from tests.end_to_end.echo_server import (
    BASE,
    PROMPT,
    EchoServer,
    body_of,
    processes_of,
)

pytestmark = [pytest.mark.ray, pytest.mark.redis, pytest.mark.slow]

NUM_TOKENS = 60
MODELS = [BASE, f"{BASE}:ada"]
CHAT: Any = [{"role": "user", "content": "hi"}]
Part = tuple[str, list[int], str | None]
"""What one event or message brought: text, tokens, and how the answer ended, if it did."""


@pytest.fixture(scope="module", autouse=True)
def _published(server: EchoServer) -> None:
    assert server.publish("ada", 1).status_code == 200


@pytest.fixture(scope="module")
def client(server: EchoServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


Ask = Callable[[list[int]], Iterator[Part]]
"""Streams an answer that begins with some tokens; closing it is the client that leaves."""


def texts(client: openai.OpenAI, model: str) -> Ask:
    def stream(resumed: list[int]) -> Iterator[Part]:
        extra = {"return_token_ids": True, "resume_token_ids": resumed}
        with client.completions.create(
            model=model, prompt=PROMPT, max_tokens=NUM_TOKENS, stream=True, extra_body=extra
        ) as chunks:
            for chunk in chunks:
                choice: Any = chunk.choices[0]
                yield choice.text, choice.token_ids, choice.finish_reason

    return stream


def chats(client: openai.OpenAI, model: str) -> Ask:
    def stream(resumed: list[int]) -> Iterator[Part]:
        extra = {"return_token_ids": True, "resume_token_ids": resumed}
        with client.chat.completions.create(
            model=model, messages=CHAT, max_tokens=NUM_TOKENS, stream=True, extra_body=extra
        ) as chunks:
            for chunk in chunks:
                choice: Any = chunk.choices[0]
                ids = getattr(choice, "token_ids", None) or []
                yield choice.delta.content or "", ids, choice.finish_reason

    return stream


def messages(channel: grpc.Channel, model: str) -> Ask:
    method = pb.DESCRIPTOR.services_by_name["Generation"].methods_by_name["GenerateStream"]

    def stream(resumed: list[int]) -> Iterator[Part]:
        request = pb.GenerateRequest(model=model, resume_token_ids=resumed)
        request.token_ids.ids.extend(PROMPT)
        request.sampling.max_tokens = NUM_TOKENS
        running = caller_of(channel, method)(request, timeout=20)
        try:
            for message in running:
                for delta in message.deltas:
                    ended = (
                        pb.FinishReason.Name(delta.finish_reason) if delta.finish_reason else None
                    )
                    yield delta.text, list(delta.token_ids), ended
        finally:
            running.cancel()

    return stream


def joined(parts: list[Part]) -> Part:
    return "".join(p[0] for p in parts), [i for p in parts for i in p[1]], parts[-1][2]


def cut(ask: Ask, num_tokens: int) -> list[Part]:
    """The parts until so many tokens have come, of a client that leaves then."""
    parts: list[Part] = []
    stream: Any = ask([])
    for part in stream:
        parts.append(part)
        if len(joined(parts)[1]) >= num_tokens:
            break
    stream.close()
    return parts


def take(
    stream: Iterator[Part], parts: list[Part], then: Callable[[], object] = lambda: None
) -> None:
    """Keep what comes, also where the stream breaks."""
    for part in stream:
        parts.append(part)
        then()


def assert_goes_on(ask: Ask) -> None:
    text, ids, ended = joined(list(ask([])))
    assert len(ids) == NUM_TOKENS
    assert ended in ("length", "FINISH_REASON_LENGTH")
    for num_tokens in (1, 7, NUM_TOKENS - 1):
        had = cut(ask, num_tokens)
        had_ids = joined(had)[1]
        assert num_tokens <= len(had_ids) < NUM_TOKENS
        assert joined(had + list(ask(had_ids))) == (text, ids, ended)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", [texts, chats])
def test_openais_client_has_the_rest(
    client: openai.OpenAI, kind: Callable[[openai.OpenAI, str], Ask], model: str
) -> None:
    assert_goes_on(kind(client, model))


@pytest.mark.parametrize("model", MODELS)
def test_a_grpc_client_has_the_rest(port_and_server: tuple[int, EchoServer], model: str) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{port_and_server[0]}") as channel:
        assert_goes_on(messages(channel, model))


def test_a_whole_answer_has_the_rest(server: EchoServer) -> None:
    body = body_of("ada", 9, stream=False) | {"return_token_ids": True}
    whole = server.http.post("/v1/completions", json=body).json()
    rest = server.http.post(
        "/v1/completions", json=body | {"resume_token_ids": [7, 8, 9, 7]}
    ).json()
    assert whole["choices"][0]["token_ids"] == PROMPT * 3
    assert rest["choices"][0]["token_ids"] == [8, 9, 7, 8, 9]
    assert whole["choices"][0]["text"].endswith(rest["choices"][0]["text"])
    assert rest["usage"]["prompt_tokens"] == whole["usage"]["prompt_tokens"] + 4
    assert rest["usage"]["total_tokens"] == whole["usage"]["total_tokens"]


def test_the_ingress_is_killed_and_the_client_goes_on(
    server: EchoServer, client: openai.OpenAI
) -> None:
    """What `resume_token_ids` are for: nothing of the first answer is left on the server."""
    ask = texts(client, f"{BASE}:ada")
    unbroken = joined(list(ask([])))
    parts: list[Part] = []
    (door,) = processes_of(server.url, "door")
    with pytest.raises((openai.APIError, httpx.HTTPError)):
        take(ask([]), parts, lambda: len(parts) == 5 and door.kill())
    assert 5 <= len(joined(parts)[1]) < NUM_TOKENS
    deadline_s = time.monotonic() + 60
    while joined(parts)[2] is None:
        assert time.monotonic() < deadline_s
        try:
            take(ask(joined(parts)[1]), parts)
        except (openai.APIError, httpx.HTTPError):
            time.sleep(0.2)
    assert joined(parts) == unbroken
    assert not door.is_running() or door.status() == psutil.STATUS_ZOMBIE
