import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.adapters import BASE, DEFAULT_TENANT, AdapterKey, Digest
from contracts.errors import AdapterCorrupt, InvalidRequest
from contracts.generation import GenerateRequest, Sampling, TokenDelta, TokenLogprob
from contracts.replica import SlotReport
from flora.layout import AdapterLayout
from replicas.echo_engine import EchoEngine, EchoSource
from tests.replicas.rows import small_layout, write_row


def make_request(
    request_id: str = "r", prompt: tuple[int, ...] = (7, 8), **sampling: object
) -> GenerateRequest:
    values = {"max_tokens": 3} | sampling
    return GenerateRequest(request_id, BASE, prompt, Sampling(**values))  # type: ignore[arg-type]


async def drain(source: EchoSource, wake: asyncio.Event, index: int = 0) -> list[TokenDelta]:
    """Everything to the end."""
    found = []
    while not source.finished:
        await wake.wait()
        wake.clear()
        found += source.drain(index)
    return found


async def test_a_prompt_comes_back_token_by_token() -> None:
    wake = asyncio.Event()
    source = await EchoEngine().submit(make_request(), None, wake)
    assert await drain(source, wake, 5) == [
        TokenDelta(5, token_ids=(7,), text="7 "),
        TokenDelta(5, token_ids=(8,), text="8 "),
        TokenDelta(5, token_ids=(7,), text="7 ", finish_reason="length"),
    ]
    assert source.drain(5) == []


async def test_an_adapter_shows_in_the_text(tmp_path: Path) -> None:
    row = write_row(tmp_path / "0123456789abcdef", small_layout(), (0, 0))
    wake = asyncio.Event()
    source = await EchoEngine().submit(make_request(), row, wake)
    assert [delta.text for delta in await drain(source, wake)] == [
        "7:01234567 ",
        "8:01234567 ",
        "7:01234567 ",
    ]


@pytest.mark.parametrize(("count", "num_top"), [(0, 0), (1, 1), (5, 1)])
async def test_log_probabilities_on_request(count: int, num_top: int) -> None:
    wake = asyncio.Event()
    source = await EchoEngine().submit(make_request(max_tokens=1, logprobs=count), None, wake)
    (delta,) = await drain(source, wake)
    top = ((7, "7 ", 0.0),) * num_top
    assert delta.logprobs == (TokenLogprob(7, "7 ", 0.0, top),)


async def test_every_choice_has_its_own_deltas() -> None:
    wake = asyncio.Event()
    source = await EchoEngine().submit(make_request(max_tokens=2, n=3), None, wake)
    found = await drain(source, wake)
    assert [delta.choice for delta in found] == [0, 1, 2] * 2
    assert [delta.finish_reason for delta in found] == [None] * 3 + ["length"] * 3


@pytest.mark.parametrize("blob", [b"", b"garbage" * 40])
async def test_a_bad_row_is_the_requests_error(tmp_path: Path, blob: bytes) -> None:
    (tmp_path / "row").write_bytes(blob)
    with pytest.raises(AdapterCorrupt):
        await EchoEngine().submit(make_request(), tmp_path / "row", asyncio.Event())


@pytest.mark.parametrize("request_", [make_request(prompt=()), make_request(max_tokens=0)])
async def test_what_could_never_finish_is_refused(request_: GenerateRequest) -> None:
    with pytest.raises(InvalidRequest):
        await EchoEngine().submit(request_, None, asyncio.Event())


async def test_abort_finishes_every_choice() -> None:
    engine, wake = EchoEngine(step_s=60), asyncio.Event()
    source = await engine.submit(make_request(n=2), None, wake)
    await engine.abort("somebody else's")
    await engine.abort("r")
    assert await drain(source, wake) == [
        TokenDelta(0, 0, finish_reason="abort"),
        TokenDelta(0, 1, finish_reason="abort"),
    ]
    await engine.abort("r")
    assert source.drain(0) == []


async def test_stop_ends_what_runs() -> None:
    engine, wake = EchoEngine(step_s=60), asyncio.Event()
    source = await engine.submit(make_request(), None, wake)
    await engine.stop()
    assert [delta.finish_reason for delta in await drain(source, wake)] == ["abort"]
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_it_says_what_a_door_needs() -> None:
    engine = EchoEngine(max_model_len_tokens=99)
    info = await engine.start()
    assert (info.model, info.max_model_len_tokens) == ("echo", 99)
    assert AdapterLayout.from_json(info.layout_json).base_fingerprint == "echo"
    await engine.check()


def with_adapter(request_id: str, digest: Digest) -> GenerateRequest:
    key = AdapterKey(DEFAULT_TENANT, "a", 1, digest, 10)
    return replace(make_request(request_id), adapter=key)


async def test_slots_are_counted_and_released(tmp_path: Path) -> None:
    engine, wake = EchoEngine(step_s=60), asyncio.Event()
    row = write_row(tmp_path / "row", small_layout(), (0, 0))
    one, two = Digest("1" * 64), Digest("2" * 64)
    await engine.submit(with_adapter("r", one), row, wake)
    await engine.submit(with_adapter("s", one), row, wake)
    assert await engine.slots() == SlotReport(64, 1, 1, 1, 0)
    assert not await engine.release(one)
    assert not await engine.release(two)
    await engine.abort("r")
    assert not await engine.release(one)
    await engine.abort("s")
    assert await engine.release(one)
    assert not await engine.release(one)
    assert await engine.slots() == SlotReport(64, 0, 1, 1, 0)


async def test_the_slot_used_longest_ago_is_evicted(tmp_path: Path) -> None:
    engine, wake = EchoEngine(step_s=60), asyncio.Event()
    row = write_row(tmp_path / "row", small_layout(), (0, 0))
    digests = [Digest(f"{number:064}") for number in range(66)]
    await engine.submit(with_adapter("first", digests[0]), row, wake)
    for digest in digests[1:]:
        await engine.submit(with_adapter(digest, digest), row, wake)
        await engine.abort(digest)
    assert await engine.slots() == SlotReport(64, 64, 0, 66, 2)
    # The first is in use, so it stayed.
    await engine.submit(with_adapter("again", digests[0]), row, wake)
    assert (await engine.slots()).hits == 1
    await engine.stop()
    await asyncio.sleep(0)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=5), st.integers(1, 12), st.data())
def test_an_answer_goes_on_wherever_it_was_cut(
    prompt: list[int], max_tokens: int, data: st.DataObject
) -> None:
    async def answer(resumed: tuple[int, ...]) -> list[TokenDelta]:
        request = make_request(prompt=tuple(prompt), max_tokens=max_tokens, logprobs=1)
        request = replace(request, resumed_token_ids=resumed)
        wake = asyncio.Event()
        return await drain(await EchoEngine().submit(request, None, wake), wake)

    async def check() -> None:
        whole = await answer(())
        cut = data.draw(st.integers(0, max_tokens - 1))
        resumed = tuple(token for delta in whole[:cut] for token in delta.token_ids)
        assert await answer(resumed) == whole[cut:]

    asyncio.run(check())


async def test_an_answer_that_is_whole_already_ends_at_once() -> None:
    wake = asyncio.Event()
    request = replace(make_request(max_tokens=2), resumed_token_ids=(7, 8))
    source = await EchoEngine().submit(request, None, wake)
    assert await drain(source, wake) == [TokenDelta(0, finish_reason="length")]
