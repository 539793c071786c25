"""The wire form of chat completions."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from app.answer_format import EVENT_END, EVENT_START, AnswerHead, Collected, Usage
from contracts.generation import TokenDelta, TokenLogprob


class ChatFormat:
    """AnswerFormat of /v1/chat/completions.

    A delta of plain text costs one `orjson.dumps` of that text: what stands before and after it
    is built once per choice.
    """

    def __init__(
        self, head: AnswerHead, *, num_choices: int, include_usage: bool, logprobs: bool
    ) -> None:
        self._head = head
        self._num_choices = num_choices
        self._include_usage = include_usage
        self._logprobs = logprobs
        self.sign("")

    def sign(self, fingerprint: str) -> None:
        """See AnswerFormat."""
        self._head = replace(self._head, fingerprint=fingerprint)
        self._start = [self._cut(choice)[0] for choice in range(self._num_choices)]
        self._end = self._cut(0)[1]

    def opening(self) -> bytes:
        """The chunk that gives the role, for each choice."""
        role = {"role": "assistant", "content": ""}
        return b"".join(self.chunk(i, role, None, None) for i in range(self._num_choices))

    def event(self, choice: int, delta: TokenDelta) -> bytes:
        """See AnswerFormat."""
        if delta.finish_reason is None and not (self._logprobs and delta.logprobs):
            if not delta.text:
                return b""
            return self._start[choice] + orjson.dumps(delta.text) + self._end
        content = {"content": delta.text} if delta.text else {}
        return self.chunk(choice, content, [delta], delta.finish_reason)

    def usage_event(self, usage: Usage) -> bytes:
        """See AnswerFormat."""
        if not self._include_usage:
            return b""
        top = self._head.top("chat.completion.chunk")
        chunk = {**top, "choices": [], "usage": usage.to_dict()}
        return EVENT_START + orjson.dumps(chunk) + EVENT_END

    def body(self, choices: Sequence[Collected], usage: Usage) -> bytes:
        """See AnswerFormat."""
        items = [
            self.item(index, choice, {"content": choice.text}, choice.finish_reason)
            for index, choice in enumerate(choices)
        ]
        return self.whole(items, usage)

    def item(
        self, index: int, choice: Collected, said: Mapping[str, Any], finish_reason: str | None
    ) -> dict[str, Any]:
        """One choice of a whole answer; `said` is its message."""
        return {
            "index": index,
            "message": {"role": "assistant", **said, "refusal": None},
            "logprobs": self._logprobs_of(choice.deltas) if self._logprobs else None,
            "finish_reason": finish_reason,
        }

    def whole(self, items: Sequence[Mapping[str, Any]], usage: Usage) -> bytes:
        """The whole answer of its choices."""
        top = self._head.top("chat.completion")
        return orjson.dumps({**top, "choices": items, "usage": usage.to_dict()})

    def chunk(
        self,
        choice: int,
        content: Mapping[str, Any],
        deltas: Sequence[TokenDelta] | None,
        finish_reason: str | None,
    ) -> bytes:
        """One event, with the log-probabilities of `deltas` where the client wants them."""
        has_logprobs = self._logprobs and any(delta.logprobs for delta in deltas or ())
        item = {
            "index": choice,
            "delta": content,
            "logprobs": self._logprobs_of(deltas or ()) if has_logprobs else None,
            "finish_reason": finish_reason,
        }
        chunk = {**self._head.top("chat.completion.chunk"), "choices": [item]}
        if self._include_usage:
            chunk["usage"] = None
        return EVENT_START + orjson.dumps(chunk) + EVENT_END

    def _cut(self, choice: int) -> tuple[bytes, bytes]:
        """A chunk with empty text, cut where the text goes."""
        marker = b'"content":""'
        before, _, after = self.chunk(choice, {"content": ""}, None, None).rpartition(marker)
        return before + b'"content":', after

    @staticmethod
    def _logprobs_of(deltas: Sequence[TokenDelta]) -> dict[str, Any]:
        tokens = [token for delta in deltas for token in delta.logprobs]
        return {"content": [_token_logprob(token) for token in tokens], "refusal": None}


def _token_logprob(token: TokenLogprob) -> dict[str, Any]:
    return {
        **_spelled(token.token, token.logprob),
        "top_logprobs": [_spelled(text, logprob) for _, text, logprob in token.top],
    }


def _spelled(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}
