"""POST /v1/audio/transcriptions at a door: what is answered, and what is refused and why."""

import io
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
import soundfile
from openai import AsyncOpenAI, NotFoundError

from app.door import Door, DoorLimits
from app.http_api import create_app
from contracts.generation import GenerateRequest, TokenDelta
from contracts.replica import ReplicaInfo
from flora.speech.vocabulary import SpeechVocabulary
from tests.app.parts import BASE, MAX_LEN, VOCAB, CountingReplica, make_client, make_door, publish

SPEECH = SpeechVocabulary(
    {"en": 10, "ru": 11}, start=1, task=2, plain=3, end=4, previous=5, suppressed=(6, 7)
)
PCM = (1000 * np.sin(np.arange(8000) / 5)).astype("<i2")
PATH = "/v1/audio/transcriptions"


class ListeningReplica(CountingReplica):
    """Hears two seconds, hears Russian, and ends on its own after three words."""

    async def describe(self) -> ReplicaInfo:
        return ReplicaInfo(BASE, MAX_LEN, VOCAB, 8, self.layout.to_json(), 2.0)

    def _step(self, requests: Sequence[GenerateRequest], step: int) -> list[TokenDelta]:
        if requests[0].sampling.allowed_token_ids:
            return [TokenDelta(0, token_ids=(11,), text="", finish_reason="length")]
        if step > 2:
            return []
        text, over = f" {requests[0].adapter.name or 'base'}{step}", step == 2
        return [TokenDelta(0, 0, (step,), text, finish_reason="stop" if over else None)]


def wav(samples: Any = PCM, rate_hz: int = 16000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format="WAV", subtype="PCM_16")
    return file.getvalue()


def make_listening(replica: CountingReplica | None = None, **options: Any) -> Door:
    door = make_door(replica or ListeningReplica(), **options)
    door.models[BASE].speech = SPEECH
    return door


async def post(door: Door, content: bytes | None = None, **fields: str) -> httpx.Response:
    data = {"model": "tiny", "language": "ru", **fields}
    async with make_client(door) as client:
        file = {"file": ("a.wav", wav() if content is None else content)}
        return await client.post(PATH, data={k: v for k, v in data.items() if v}, files=file)


async def test_the_engine_hears_the_clip_with_the_adapter() -> None:
    replica = ListeningReplica()
    door = make_listening(replica)
    await publish(door.store, "pirate")
    answer = await post(door, model="tiny:pirate", temperature="0.5")
    assert answer.status_code == 200
    assert answer.json() == {
        "text": "pirate0 pirate1 pirate2",
        "usage": {"type": "duration", "seconds": 1},
    }
    ((request,),) = replica.groups
    assert request.audio == PCM.tobytes()
    assert request.prompt_token_ids == (1, 11, 2, 3)
    assert (request.sampling.temperature, request.sampling.min_tokens) == (0.5, 1)
    assert dict(request.sampling.logit_bias) == {6: -100.0, 7: -100.0}
    assert request.sampling.max_tokens == MAX_LEN // 2


async def test_other_rates_are_resampled() -> None:
    replica = ListeningReplica()
    await post(make_listening(replica), wav(PCM[::2], 8000))
    assert len(replica.groups[0][0].audio) == 2 * len(PCM)


async def test_without_a_language_the_model_is_asked_first() -> None:
    replica = ListeningReplica()
    answer = await post(make_listening(replica), language="", response_format="verbose_json")
    assert answer.json() == {
        "task": "transcribe",
        "language": "russian",
        "duration": 0.5,
        "text": "base0 base1 base2",
        "usage": {"type": "duration", "seconds": 1},
    }
    first, second = (group[0] for group in replica.groups)
    assert first.prompt_token_ids == (1,)
    assert first.sampling.allowed_token_ids == (10, 11)
    assert second.prompt_token_ids == (1, 11, 2, 3)
    assert first.audio == second.audio


async def test_text_and_what_went_before() -> None:
    replica = ListeningReplica()
    answer = await post(make_listening(replica), response_format="text", prompt="ab")
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text == "base0 base1 base2\n"
    prompt = replica.groups[0][0].prompt_token_ids
    assert (prompt[0], prompt[-4:]) == (5, (1, 11, 2, 3))
    assert len(prompt) == 1 + 3 + 4


async def test_a_long_prompt_loses_its_beginning() -> None:
    replica = ListeningReplica()
    assert (await post(make_listening(replica), prompt="x" * 4000)).status_code == 200
    assert len(replica.groups[0][0].prompt_token_ids) == 1 + (MAX_LEN // 2 - 1) + 4


async def test_a_stream_has_pieces_and_the_whole() -> None:
    answer = await post(make_listening(), stream="true")
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [e.removeprefix("data: ") for e in answer.text.split("\n\n") if e]
    assert events.pop() == "[DONE]"
    told = [orjson.loads(event) for event in events]
    assert [each.get("delta") for each in told] == ["base0", " base1", " base2", None]
    assert told[-1] == {
        "type": "transcript.text.done",
        "text": "base0 base1 base2",
        "usage": {"type": "duration", "seconds": 1},
    }


@pytest.mark.parametrize(
    ("fields", "content", "status", "param", "reason"),
    [
        ({}, b"", 400, "file", "is empty"),
        ({}, b"ID3 not a wave", 400, "file", "neither WAV"),
        ({}, wav()[:30], 400, "file", "cannot be read"),
        ({}, wav(np.zeros(40000, np.int16)), 400, "file", "longer than 2 s"),
        ({}, wav(np.zeros((9, 3), np.int16)), 400, "file", "3 channels"),
        ({}, bytes(200_000), 413, None, "over the"),
        ({"language": "klingon"}, None, 400, "language", "one of: en, ru"),
        ({"response_format": "srt"}, None, 400, "response_format", "response_format"),
        ({"temperature": "hot"}, None, 400, "temperature", "temperature"),
        ({"temperature": "nan"}, None, 400, "temperature", "temperature"),
        ({"colour": "red"}, None, 400, "colour", "unknown field"),
        ({"model": "other"}, None, 404, "model", "other"),
        ({"model": "tiny:nobody"}, None, 404, "model", "nobody"),
        ({"model": "tiny:them/pirate"}, None, 404, "model", "pirate"),
    ],
)
async def test_what_is_refused(
    fields: dict[str, str], content: bytes | None, status: int, param: str | None, reason: str
) -> None:
    limits = DoorLimits(max_audio_bytes=100_000)
    replica = ListeningReplica()
    answer = await post(make_listening(replica, limits=limits), content, **fields)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (status, param), error
    assert reason in error["message"]
    assert not replica.groups


async def test_forms_that_are_none() -> None:
    async with make_client(make_listening()) as client:
        for body, param in (
            ({"json": {"model": "tiny"}}, "content-type"),
            ({"data": {"model": "tiny"}, "files": {"other": b"x"}}, "file"),
            ({"files": {"model": (None, "tiny"), "language": (None, "ru")}}, "file"),
            ({"files": [("file", b"x"), ("file", b"y")]}, "file"),
            ({"files": [("model", (None, "a")), ("model", (None, "b")), ("file", b"x")]}, "model"),
            (
                {
                    "content": b'--x\r\nContent-Disposition: form-data; name="file"',
                    "headers": {"content-type": "multipart/form-data; boundary=x"},
                },
                "file",
            ),
        ):
            answer = await client.post(PATH, **body)
            assert answer.status_code == 400, body
            assert answer.json()["error"]["param"] == param, body


@pytest.mark.parametrize("make", [make_door, lambda: make_listening(CountingReplica())])
async def test_a_text_model_takes_no_audio(make: Callable[[], Door]) -> None:
    answer = await post(make())
    assert answer.status_code == 400
    assert "takes no audio" in answer.json()["error"]["message"]


async def test_more_clips_than_there_are_places_are_refused() -> None:
    door = make_listening(limits=DoorLimits(max_parallel_clips=1))
    with ExitStack() as taken:
        for _ in range(16):
            taken.enter_context(door.clips.take())
        answer = await post(door)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "overloaded")


async def test_a_model_that_names_no_language_is_at_fault() -> None:
    class Mute(ListeningReplica):
        def _step(self, requests: Sequence[GenerateRequest], step: int) -> list[TokenDelta]:
            return [TokenDelta(0, token_ids=(99,), finish_reason="stop")]

    answer = await post(make_listening(Mute()), language="")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "engine_failed")


async def test_the_official_client_reads_every_form() -> None:
    door = make_listening()
    transport = httpx.ASGITransport(create_app(door))
    async with (
        httpx.AsyncClient(transport=transport) as http,
        AsyncOpenAI(base_url="http://door/v1", api_key="none", http_client=http) as client,
    ):
        ask: Any = partial(client.audio.transcriptions.create, model="tiny", file=("a.wav", wav()))
        text = "base0 base1 base2"
        assert (await ask(language="ru")).text == text
        assert await ask(response_format="text") == f"{text}\n"
        whole = await ask(response_format="verbose_json", temperature=0.2)
        assert (whole.text, whole.language, whole.duration) == (text, "russian", 0.5)
        stream = await ask(language="ru", stream=True)
        events = [event async for event in stream]
        assert [event.type for event in events[-2:]] == [
            "transcript.text.delta",
            "transcript.text.done",
        ]
        assert events[-1].text == text
        with pytest.raises(NotFoundError):
            await ask(model="tiny:nobody")
