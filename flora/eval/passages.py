"""Text whose probability is asked for: JSON lines in, pieces with their context out."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.errors import InvalidRequest

Messages = tuple[dict[str, str], ...]


@dataclass(frozen=True, slots=True)
class Passage:
    """`text` is judged, `context` is given: text before it, or the messages that it answers."""

    text: str
    context: str | Messages = ""


@dataclass(frozen=True, slots=True)
class Score:
    """What a model makes of one passage: `nats` is its negative log-probability."""

    nats: float
    num_tokens: int
    num_bytes: int

    @property
    def bits(self) -> float:
        return self.nats / math.log(2)


def perplexity(scores: Sequence[Score]) -> float:
    """Of all tokens of all passages. Raises InvalidRequest where there is none."""
    num_tokens = sum(score.num_tokens for score in scores)
    if not num_tokens:
        raise InvalidRequest("no passage has a token to judge")
    return math.exp(sum(score.nats for score in scores) / num_tokens)


def read_passages(path: Path, max_characters: int) -> list[Passage]:
    """Lines of {"text"}, {"prompt", "completion"} or {"messages"}; else plain text.

    Of messages the last is judged. Long texts are cut at white space, each piece judged apart.
    Raises InvalidRequest.
    """
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path.name} cannot be read: {error}", "data") from error
    if path.suffix != ".jsonl":
        return [Passage(piece) for piece in pieces(content, max_characters)]
    found: list[Passage] = []
    for number, line in enumerate(content.splitlines(), 1):
        if line.strip():
            found += _passages(line, f"{path.name}:{number}", max_characters)
    return found


def pieces(text: str, max_characters: int) -> Iterator[str]:
    """`text` in parts of at most `max_characters`, cut before white space where there is any."""
    while len(text) > max_characters:
        cut = max(text.rfind(space, 1, max_characters + 1) for space in " \n")
        cut = cut if cut > 0 else max_characters
        yield text[:cut]
        text = text[cut:]
    if text.strip():
        yield text


def _passages(line: str, where: str, max_characters: int) -> list[Passage]:
    try:
        record: Any = json.loads(line)
        if "text" in record:
            return [Passage(piece) for piece in pieces(record["text"], max_characters)]
        if "prompt" in record:
            return [Passage(str(record["completion"]), str(record["prompt"]))]
        *context, last = record["messages"]
        asked = tuple({"role": str(m["role"]), "content": str(m["content"])} for m in context)
        return [Passage(str(last["content"]), asked)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        needed = '"text", "prompt" and "completion", or "messages"'
        raise InvalidRequest(f"{where}: needs {needed}", "data") from error
