"""Templates and token counts."""

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.prompts import Prompts, room_for_answer
from contracts.errors import InvalidRequest, PromptTooLong
from tests.app.parts import VOCAB, make_tokenizer

PROMPTS = Prompts(make_tokenizer(), max_inline_characters=50)


@given(st.text(st.characters(codec="utf-8"), max_size=200))
def test_text_survives_the_round_trip(text: str) -> None:
    ids = asyncio.run(PROMPTS.encode_text(text))
    assert PROMPTS.decode(ids) == text
    assert all(i < VOCAB for i in ids)


async def test_a_chat_ends_where_the_assistant_is_to_speak() -> None:
    ids = await PROMPTS.encode_chat([{"role": "user", "content": "hi"}])
    assert PROMPTS.decode(ids) == "<|im_start|>user\nhi<|im_end|><|im_start|>assistant\n"
    assert PROMPTS.vocab_size == VOCAB


async def test_long_prompts_leave_the_event_loop() -> None:
    threads: list[str] = []
    prompts = Prompts(make_tokenizer(), max_inline_characters=50)
    backend = prompts._backend

    class Spy:
        def encode(self, text: str, **options: bool) -> object:
            threads.append(threading.current_thread().name)
            return backend.encode(text, **options)

    prompts._backend = Spy()
    short, long = await asyncio.gather(prompts.encode_text("x"), prompts.encode_text("x" * 99))
    prompts.close()
    assert (len(short), len(long)) == (1, 99)
    assert sorted(name.startswith("tokenize") for name in threads) == [False, True]


async def test_a_model_without_a_template_has_no_chat() -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(InvalidRequest, match="no chat template"):
        await Prompts(tokenizer).encode_chat([{"role": "user", "content": "x"}])


async def test_a_template_may_refuse() -> None:
    roles = [{"role": "user", "content": "x"}, {"role": "system", "content": "x"}]
    with pytest.raises(InvalidRequest, match="system must come first"):
        await PROMPTS.encode_chat(roles)


@given(st.integers(1, 30), st.none() | st.integers(1, 30), st.integers(1, 30))
def test_prompt_and_answer_fit_or_are_refused(num: int, wanted: int | None, length: int) -> None:
    fits = num + (wanted or 1) <= length
    if fits:
        room = room_for_answer(num, wanted, length)
        assert room == (wanted or length - num)
        assert 1 <= room <= length - num
    else:
        with pytest.raises(PromptTooLong, match=str(num)):
            room_for_answer(num, wanted, length)


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        room_for_answer(0, 1, 10)
