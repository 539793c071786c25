"""The wire form of chat completions."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from app.answer_format import EVENT_END, EVENT_START, AnswerHead, Collected, Usage
from contracts.generation import TokenDelta, TokenLogprob

_NOTHING: Mapping[str, Any] = {}


class ChatFormat:
    """AnswerFormat of /v1/chat/completions.

    A delta of plain text costs one `orjson.dumps` of that text: what stands before and after it
    is built once per choice. `prompt_token_ids` are for a client that wants to see all tokens.
    """

    def __init__(
        self,
        head: AnswerHead,
        *,
        num_choices: int,
        include_usage: bool,
        logprobs: bool,
        prompt_token_ids: Sequence[int] | None = None,
    ) -> None:
        self._head = head
        self._num_choices = num_choices
        self._include_usage = include_usage
        self._logprobs = logprobs
        self._prompt = {} if prompt_token_ids is None else {"prompt_token_ids": prompt_token_ids}
        self.sign("")

    def is_silent(self, delta: TokenDelta) -> bool:
        """Whether the client need not hear of `delta` where it adds nothing to the message."""
        shows = (self._prompt and delta.token_ids) or (self._logprobs and delta.logprobs)
        return delta.finish_reason is None and not shows

    def sign(self, fingerprint: str) -> None:
        """See AnswerFormat."""
        self._head = replace(self._head, fingerprint=fingerprint)
        self._start = [self._cut(choice)[0] for choice in range(self._num_choices)]
        self._end = self._cut(0)[1]

    def opening(self) -> bytes:
        """The chunk that gives the role, for each choice."""
        role = {"role": "assistant", "content": ""}
        roles = (_part(i, role, None, None) for i in range(self._num_choices))
        return b"".join(self._event(part, self._prompt) for part in roles)

    def event(self, choice: int, delta: TokenDelta) -> bytes:
        """See AnswerFormat."""
        if self.is_silent(delta):
            if not delta.text:
                return b""
            return self._start[choice] + orjson.dumps(delta.text) + self._end
        content = {"content": delta.text} if delta.text else {}
        return self.chunk(choice, content, delta, delta.finish_reason)

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
            **({"token_ids": choice.token_ids} if self._prompt else {}),
        }

    def whole(self, items: Sequence[Mapping[str, Any]], usage: Usage) -> bytes:
        """The whole answer of its choices."""
        top = self._head.top("chat.completion")
        return orjson.dumps({**top, **self._prompt, "choices": items, "usage": usage.to_dict()})

    def chunk(
        self,
        choice: int,
        content: Mapping[str, Any],
        delta: TokenDelta,
        finish_reason: str | None,
    ) -> bytes:
        """One event, with what else of `delta` the client wants to see."""
        logprobs = self._logprobs_of([delta]) if self._logprobs and delta.logprobs else None
        part = _part(choice, content, logprobs, finish_reason)
        if self._prompt:
            part["token_ids"] = delta.token_ids
        return self._event(part)

    def _event(self, part: Mapping[str, Any], more: Mapping[str, Any] = _NOTHING) -> bytes:
        chunk = {**self._head.top("chat.completion.chunk"), **more, "choices": [part]}
        if self._include_usage:
            chunk["usage"] = None
        return EVENT_START + orjson.dumps(chunk) + EVENT_END

    def _cut(self, choice: int) -> tuple[bytes, bytes]:
        """A chunk with empty text, cut where the text goes."""
        marker = b'"content":""'
        part = _part(choice, {"content": ""}, None, None)
        before, _, after = self._event(part).rpartition(marker)
        return before + b'"content":', after

    @staticmethod
    def _logprobs_of(deltas: Sequence[TokenDelta]) -> dict[str, Any]:
        tokens = [token for delta in deltas for token in delta.logprobs]
        return {"content": [_token_logprob(token) for token in tokens], "refusal": None}


def _part(
    choice: int, content: Mapping[str, Any], logprobs: Any, finish_reason: str | None
) -> dict[str, Any]:
    """What a chunk adds to one choice."""
    return {
        "index": choice,
        "delta": content,
        "logprobs": logprobs,
        "finish_reason": finish_reason,
    }


def _token_logprob(token: TokenLogprob) -> dict[str, Any]:
    return {
        **_spelled(token.token, token.logprob),
        "top_logprobs": [_spelled(text, logprob) for _, text, logprob in token.top],
    }


def _spelled(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}
