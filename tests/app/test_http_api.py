"""The official OpenAI client against a real port."""

from collections.abc import AsyncIterator

import anyio
import openai
import pytest
import pytest_asyncio

from adapter_cache.store import MemoryStore
from app.http_api import create_app
from tests.app.parts import make_door, publish
from tests.app.serving import serving


@pytest_asyncio.fixture
async def url() -> AsyncIterator[str]:
    store = MemoryStore()
    for name in ("pirate", "broken", "crash", "polite"):
        await publish(store, name)
    async with serving(create_app(make_door(store=store))) as address:
        yield f"{address}/v1"


@pytest_asyncio.fixture
async def client(url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as made:
        yield made


async def test_chat(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model="tiny:pirate",
        messages=[{"role": "user", "content": "hi"}],
        max_completion_tokens=2,
        logprobs=True,
        top_logprobs=2,
    )
    choice = answer.choices[0]
    assert (choice.message.content, choice.finish_reason) == ("pirate0 pirate1 ", "length")
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 2
    assert choice.logprobs is not None
    assert choice.logprobs.content is not None
    assert len(choice.logprobs.content[0].top_logprobs) == 2


async def test_chat_stream(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": "hi"}],
        max_tokens=3,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "base0 base1 base2 "
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 23


async def test_the_clients_own_accumulator(client: openai.AsyncOpenAI) -> None:
    async with client.chat.completions.stream(
        model="tiny:polite", messages=[{"role": "user", "content": "hi"}], max_tokens=2, n=2
    ) as stream:
        final = await stream.get_final_completion()
    assert [c.message.content for c in final.choices] == ["polite0 polite1 "] * 2


async def test_text_completions(client: openai.AsyncOpenAI) -> None:
    answer = await client.completions.create(
        model="tiny", prompt=["a", "b"], max_tokens=2, logprobs=1, echo=True
    )
    assert [c.text for c in answer.choices] == ["abase0 base1 ", "bbase0 base1 "]
    assert answer.choices[0].logprobs is not None
    stream = await client.completions.create(model="tiny", prompt="a", max_tokens=2, stream=True)
    assert "".join([c.choices[0].text async for c in stream]) == "base0 base1 "


async def test_models(client: openai.AsyncOpenAI) -> None:
    ids = [model.id async for model in client.models.list()]
    assert ids == ["tiny", "tiny:broken", "tiny:crash", "tiny:pirate", "tiny:polite"]
    assert (await client.models.retrieve("tiny:pirate@1")).id == "tiny:pirate@1"


async def test_errors_are_the_clients_own(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        await client.completions.create(model="tiny:no", prompt="x")
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError):
        await client.completions.create(model="tiny", prompt="x", temperature=9)
    with pytest.raises(openai.InternalServerError):
        await client.completions.create(model="tiny:broken", prompt="x")
    stream = await client.completions.create(model="tiny:crash", prompt="x", stream=True)
    with pytest.raises(openai.APIError, match="engine"):
        [chunk async for chunk in stream]


async def test_the_blocking_client(url: str) -> None:
    def use() -> str:
        with openai.OpenAI(base_url=url, api_key="none") as client:
            stream = client.completions.create(model="tiny", prompt="x", max_tokens=2, stream=True)
            return "".join(chunk.choices[0].text for chunk in stream)

    assert await anyio.to_thread.run_sync(use) == "base0 base1 "
