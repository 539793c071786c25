"""Training text: records in, token sequences with their targets out. Knows no model."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from contracts.errors import InvalidRequest
from flora.train_sources import is_dataset, read_dataset

Record = dict[str, Any]
IGNORED = -100
"""The label of a token that is no target: torch's cross entropy skips it."""


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence. `is_target` marks the tokens that the model learns to say."""

    token_ids: tuple[int, ...]
    is_target: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class TokenTensors:
    """A padded batch: input_ids, attention_mask and labels, int64 [sequences, tokens]."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor

    @property
    def num_tokens(self) -> int:
        return int(self.attention_mask.sum())


def read_records(path: Path, min_records: int = 2) -> list[Record]:
    """JSON lines or a dataset of {"text"}, {"messages"} or {"prompt", "completion"}.

    Raises InvalidRequest on anything else, on fewer than `min_records`, and on what is unreadable.
    """
    if is_dataset(path):
        rows = [(f"{path.name}[{i}]", row) for i, row in enumerate(read_dataset(path))]
    else:
        rows = _read_lines(path)
    records = [_checked(row, where) for where, row in rows]
    if len(records) < min_records:
        raise InvalidRequest(f"{path.name} needs {min_records} records or more", "data")
    return records


def to_example(record: Record, tokenizer: Any, max_length_tokens: int) -> Example:
    """Tokens of one record: all of a text, a completion or the assistant's turns are targets.

    Longer sequences lose their end. `tokenizer` is a Hugging Face tokenizer; messages need its
    chat template. Raises InvalidRequest where it has none.
    """
    parts = _parts(record, tokenizer)
    token_ids: list[int] = []
    is_target: list[bool] = []
    for i, (text, targeted) in enumerate(parts):
        special = i == 0 and "messages" not in record
        piece = tokenizer(text, add_special_tokens=special)["input_ids"] if text else []
        token_ids += piece
        is_target += [targeted] * len(piece)
    if "messages" not in record and tokenizer.eos_token_id is not None:
        token_ids.append(tokenizer.eos_token_id)
        is_target.append(True)
    return Example(tuple(token_ids[:max_length_tokens]), tuple(is_target[:max_length_tokens]))


def collate(examples: Sequence[Example]) -> TokenTensors:
    """Pads on the right to the longest sequence."""
    length = max(len(example.token_ids) for example in examples)
    input_ids = torch.zeros(len(examples), length, dtype=torch.long)
    mask = torch.zeros_like(input_ids)
    labels = torch.full_like(input_ids, IGNORED)
    for row, example in enumerate(examples):
        n = len(example.token_ids)
        input_ids[row, :n] = torch.tensor(example.token_ids)
        mask[row, :n] = 1
        targets = torch.tensor(example.is_target)
        labels[row, :n] = torch.where(targets, input_ids[row, :n], IGNORED)
    return TokenTensors(input_ids, mask, labels)


def _read_lines(path: Path) -> list[tuple[str, object]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path.name} cannot be read: {error}", "data") from error
    numbered = [(f"{path.name}:{i}", line) for i, line in enumerate(lines, 1) if line.strip()]
    return [(where, _parsed(line, where)) for where, line in numbered]


def _parsed(line: str, where: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{where}: not JSON", "data") from error


def _checked(record: object, where: str) -> Record:
    if isinstance(record, dict):
        # Of one form alone: the columns of a dataset may be there and empty.
        text, pair = record.get("text"), (record.get("prompt"), record.get("completion"))
        if isinstance(text, str):
            return {"text": text}
        if isinstance(pair[0], str) and isinstance(pair[1], str):
            return {"prompt": pair[0], "completion": pair[1]}
        if _are_messages(record.get("messages")):
            return {"messages": record["messages"]}
    raise InvalidRequest(f'{where}: needs "text", "messages", or "prompt" and "completion"', "data")


def _are_messages(value: object) -> bool:
    return (
        isinstance(value, list)
        and any(
            isinstance(message, dict) and message.get("role") == "assistant" for message in value
        )
        and all(
            isinstance(message, dict)
            and isinstance(message.get("role"), str)
            and isinstance(message.get("content"), str)
            for message in value
        )
    )


def _parts(record: Record, tokenizer: Any) -> list[tuple[str, bool]]:
    if "text" in record:
        return [(record["text"], True)]
    if "prompt" in record:
        return [(record["prompt"], False), (record["completion"], True)]
    if not tokenizer.chat_template:
        raise InvalidRequest("messages need a model with a chat template", "data")
    # A turn is tokenised apart, as when the model answers: its prompt ends where it begins.
    parts: list[tuple[str, bool]] = []
    done = ""
    for i, message in enumerate(record["messages"]):
        if message["role"] == "assistant":
            asked = _render(tokenizer, record["messages"][:i], True)
            said = _render(tokenizer, record["messages"][: i + 1], False)
            parts += [(asked.removeprefix(done), False), (said.removeprefix(asked), True)]
            done = said
    return parts


def _render(tokenizer: Any, messages: Sequence[Record], prompt: bool) -> str:
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
    return str(text)
