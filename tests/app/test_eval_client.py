"""The client against a server that is played; the real one is asked in tests/end_to_end."""

import json
from typing import Any

import httpx
import pytest

from app.eval_client import ServedSubject
from contracts.errors import CallerError, NotReady, ServiceError
from flora.eval.passages import Passage
from flora.eval.subject import Drawing
from tests.app.serving import serving_in_a_thread


class PlayedServer:
    """One token a byte, each with a log-probability of minus its place in the prompt."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        self.bodies.append(body)
        if request.url.path == "/v1/tokenize":
            text = body["prompt"] if "prompt" in body else f"<{body['messages'][0]['content']}>"
            return httpx.Response(200, json={"tokens": list(text.encode())})
        if body.get("echo"):
            tokens = [chr(i) for i in body["prompt"]]
            values = [None, *(-float(i) for i in range(1, len(tokens)))]
            found = {"tokens": tokens, "token_logprobs": values}
            return httpx.Response(200, json={"choices": [{"logprobs": found}]})
        texts = [f"{body['seed']}-{i}" for i in range(body["n"])]
        if "messages" in body:
            choices: list[dict[str, Any]] = [{"message": {"content": text}} for text in texts]
        else:
            choices = [{"text": text} for text in texts]
        return httpx.Response(200, json={"choices": choices})


def make_subject(server: Any) -> ServedSubject:
    return ServedSubject("http://played", "secret", "m:a", transport=httpx.MockTransport(server))


def test_texts_are_scored_behind_their_context() -> None:
    server = PlayedServer()
    asked = ({"role": "user", "content": "x"},)
    passages = [Passage("abc"), Passage("bc", "a"), Passage("b", asked)]
    alone, behind, answered = make_subject(server).score(passages)
    assert (alone.nats, alone.num_tokens, alone.num_bytes) == (1 + 2, 2, 2)
    assert (behind.nats, behind.num_tokens, behind.num_bytes) == (1 + 2, 2, 2)
    assert (answered.nats, answered.num_tokens, answered.num_bytes) == (3, 1, 1)
    assert all(body["model"] == "m:a" for body in server.bodies)


@pytest.mark.parametrize("chat", [False, True])
def test_many_samples_are_drawn_in_parts_with_seeds_of_their_own(chat: bool) -> None:
    server = PlayedServer()
    drawing = Drawing(5, temperature=0.1, top_p=0.9, num_samples=35, stop=("#",), chat=chat, seed=7)
    answers = make_subject(server).answer(["p", "q"], drawing)
    assert [len(found) for found in answers] == [35, 35]
    assert len(set(answers[0])) == 35
    assert sorted(body["n"] for body in server.bodies) == [3, 3, 16, 16, 16, 16]
    assert all(body["stop"] == ["#"] and body["top_p"] == 0.9 for body in server.bodies)


def test_refusals_have_the_servers_words() -> None:
    def refuse(status: int, content: dict[str, Any]) -> ServedSubject:
        return make_subject(lambda request: httpx.Response(status, json=content))

    with pytest.raises(CallerError, match="no such adapter"):
        refuse(404, {"error": {"message": "no such adapter"}}).score([Passage("a")])
    with pytest.raises(ServiceError, match="HTTP 502"):
        refuse(502, {}).answer(["a"], Drawing(1))

    def lost(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(NotReady, match="played does not answer"):
        make_subject(lost).score([Passage("a")])


def test_the_servers_own_routes_take_what_it_sends() -> None:
    """Behind them a replica gives each token of a prompt -0.5, and the texts base0 base1 ..."""
    asked = ({"role": "user", "content": "x"},)
    with serving_in_a_thread() as address:
        subject = ServedSubject(address, "", "tiny")
        passages = [Passage("abc"), Passage("bc", "a"), Passage("b", asked)]
        scores = subject.score(passages)
        text = subject.answer(["p"], Drawing(2, num_samples=17, stop=("#",), temperature=0.1))
        chat = subject.answer(["p"], Drawing(2, chat=True))
    assert all(score.nats == 0.5 * score.num_tokens for score in scores)
    assert [score.num_bytes for score in scores] == [2, 2, 1]
    assert text == [["base0 base1 "] * 17]
    assert chat == [["base0 base1 "]]
