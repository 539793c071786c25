"""The wire form of transcriptions."""

from collections.abc import Sequence
from typing import Any, Literal

import orjson

from app.answer_format import EVENT_END, EVENT_START, Collected, Usage
from contracts.generation import TokenDelta

TranscriptKind = Literal["json", "text", "verbose_json"]


class TranscriptFormat:
    """AnswerFormat of /v1/audio/transcriptions.

    `language` is its name in English. A clip's usage is its duration, in whole seconds.
    """

    def __init__(self, kind: TranscriptKind, *, language: str, duration_s: float) -> None:
        self._kind = kind
        self._language = language
        self._duration_s = duration_s
        self._text = ""

    def sign(self, fingerprint: str) -> None:
        """A transcript does not say what has answered."""

    def opening(self) -> bytes:
        """Nothing comes before the text."""
        return b""

    def event(self, choice: int, delta: TokenDelta) -> bytes:
        """See AnswerFormat. The first word has a space before it, which is no part of the text."""
        text = delta.text if self._text else delta.text.lstrip()
        self._text += text
        told = _event({"type": "transcript.text.delta", "delta": text}) if text else b""
        if delta.finish_reason is None:
            return told
        done = {"type": "transcript.text.done", "text": self._text, "usage": self._usage()}
        return told + _event(done)

    def usage_event(self, usage: Usage) -> bytes:
        """The last event has it."""
        return b""

    def body(self, choices: Sequence[Collected], usage: Usage) -> bytes:
        """See AnswerFormat."""
        text = choices[0].text.strip()
        if self._kind == "text":
            return f"{text}\n".encode()
        if self._kind == "json":
            return orjson.dumps({"text": text, "usage": self._usage()})
        return orjson.dumps(
            {
                "task": "transcribe",
                "language": self._language,
                "duration": round(self._duration_s, 2),
                "text": text,
                "usage": self._usage(),
            }
        )

    def _usage(self) -> dict[str, Any]:
        return {"type": "duration", "seconds": max(1, round(self._duration_s))}


def _event(content: dict[str, Any]) -> bytes:
    return EVENT_START + orjson.dumps(content) + EVENT_END
