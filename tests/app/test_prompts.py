"""Templates and token counts."""

import asyncio
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

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


@pytest.mark.parametrize("kind", ["TokenizersBackend", "PreTrainedTokenizerFast", None])
async def test_every_way_to_load_a_tokenizer_leads_to_the_same(
    tmp_path: Path, kind: str | None
) -> None:
    make_tokenizer().save_pretrained(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "tokenizer_class": kind}))
    prompts, auto = Prompts.load(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    text = "a<|im_start|>b héé"
    assert await prompts.encode_text(text) == tuple(auto(text)["input_ids"])
    chat = [{"role": "user", "content": text}]
    asked = auto.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert prompts.decode(await prompts.encode_chat(chat)) == asked


def test_the_usual_tokenizer_brings_no_torch(tmp_path: Path) -> None:
    make_tokenizer().save_pretrained(tmp_path)
    program = "import sys; from app.prompts import Prompts; Prompts.load(sys.argv[1]);"
    program += "print('torch' in sys.modules)"
    command = [sys.executable, "-c", program, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"False\n"


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
