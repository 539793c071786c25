"""Records, targets and padding."""

import json
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import InvalidRequest
from flora.train_data import IGNORED, Example, collate, read_records, to_example
from tests.flora.models import make_tokenizer

USER = {"role": "user", "content": "Hi?"}
ASSISTANT = {"role": "assistant", "content": "Yes."}


def write_lines(path: Path, *lines: Any) -> Path:
    path.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines))
    return path


def targets(record: dict[str, Any], max_length_tokens: int = 100) -> tuple[str, str]:
    tokenizer = make_tokenizer()
    example = to_example(record, tokenizer, max_length_tokens)
    said = [t for t, chosen in zip(example.token_ids, example.is_target, strict=True) if chosen]
    return tokenizer.decode(example.token_ids), tokenizer.decode(said)


def test_only_the_answer_is_a_target() -> None:
    assert targets({"text": "abc"}) == ("abc<eos>", "abc<eos>")
    assert targets({"prompt": "ab", "completion": "cd"}) == ("abcd<eos>", "cd<eos>")
    once = "<user>Hi?\n<assistant>Yes.\n"
    # The template's closing mark belongs to the turn, so that the model learns to stop.
    assert targets({"messages": [USER, ASSISTANT]}) == (once, "<assistant>Yes.\n"[11:])
    assert targets({"messages": [USER, ASSISTANT] * 2}) == (once * 2, "Yes.\n" * 2)


def test_long_sequences_lose_their_end() -> None:
    assert targets({"text": "abcdef"}, 4) == ("abcd", "abcd")


def test_a_batch_is_padded_on_the_right() -> None:
    batch = collate([Example((5, 6, 7), (False, True, True)), Example((8,), (False,))])
    assert batch.input_ids.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch.attention_mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch.labels.tolist() == [[IGNORED, 6, 7], [IGNORED] * 3]
    assert batch.num_tokens == 4


def test_records_of_all_forms_are_read(tmp_path: Path) -> None:
    records = [{"text": "a"}, {"prompt": "a", "completion": "b"}, {"messages": [USER, ASSISTANT]}]
    assert read_records(write_lines(tmp_path / "data.jsonl", *records, "", "  ")) == records


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "3",
        {},
        {"text": 3},
        {"prompt": "a"},
        {"messages": []},
        {"messages": [USER]},
        {"messages": [ASSISTANT, 3]},
        {"messages": [{"role": "assistant"}]},
    ],
)
def test_other_lines_are_refused_by_number(tmp_path: Path, line: Any) -> None:
    path = write_lines(tmp_path / "data.jsonl", {"text": "a"}, line)
    with pytest.raises(InvalidRequest, match="jsonl:2"):
        read_records(path)


def test_unusable_files(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    write_lines(tmp_path / "short", {"text": "a"})
    for name in ("binary", "short", "missing"):
        with pytest.raises(InvalidRequest):
            read_records(tmp_path / name)


def test_messages_need_a_chat_template() -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(InvalidRequest, match="chat template"):
        to_example({"messages": [USER, ASSISTANT]}, tokenizer, 10)
