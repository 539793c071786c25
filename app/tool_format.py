"""The wire form of chat completions that may call tools."""

from collections.abc import Sequence
from typing import Any

from app.answer_format import Collected, Usage
from app.chat_format import ChatFormat
from app.structure import ToolReader
from contracts.generation import TokenDelta


class ToolFormat:
    """AnswerFormat of /v1/chat/completions with tools: `chat`, with every choice read for calls.

    `readers` has one per choice. A `named` tool ends with "stop", as in the OpenAI API.
    """

    def __init__(self, chat: ChatFormat, readers: Sequence[ToolReader], *, named: bool) -> None:
        self._chat = chat
        self._readers = readers
        self._named = named
        self._has_called = [False] * len(readers)

    def sign(self, fingerprint: str) -> None:
        """See AnswerFormat."""
        self._chat.sign(fingerprint)

    def opening(self) -> bytes:
        """See AnswerFormat."""
        return self._chat.opening()

    def event(self, choice: int, delta: TokenDelta) -> bytes:
        """See AnswerFormat."""
        said = self._readers[choice].take(delta)
        self._has_called[choice] = self._has_called[choice] or "tool_calls" in said
        if not said and self._chat.is_silent(delta):
            return b""
        finish_reason = self._finish_reason(delta.finish_reason, self._has_called[choice])
        return self._chat.chunk(choice, said, delta, finish_reason)

    def usage_event(self, usage: Usage) -> bytes:
        """See AnswerFormat."""
        return self._chat.usage_event(usage)

    def body(self, choices: Sequence[Collected], usage: Usage) -> bytes:
        """See AnswerFormat."""
        items = [self._item(index, choice) for index, choice in enumerate(choices)]
        return self._chat.whole(items, usage)

    def _item(self, index: int, choice: Collected) -> dict[str, Any]:
        parsed = self._readers[index].whole(choice.text, choice.token_ids)
        said: dict[str, Any] = {"content": parsed.content}
        if parsed.tool_calls:
            said["tool_calls"] = parsed.tool_calls
        finish_reason = self._finish_reason(choice.finish_reason, bool(parsed.tool_calls))
        return self._chat.item(index, choice, said, finish_reason)

    def _finish_reason(self, given: str | None, has_called: bool) -> str | None:
        return "tool_calls" if has_called and given == "stop" and not self._named else given
