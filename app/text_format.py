"""The wire form of text completions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from app.answer_format import EVENT_END, EVENT_START, AnswerHead, Collected, Usage
from contracts.generation import TokenDelta, TokenLogprob

_NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Echo:
    """A prompt to be repeated in the answer; both empty where it is not."""

    text: str = ""
    first_token: str = ""


class TextFormat:
    """AnswerFormat of /v1/completions.

    `choice` counts through the prompts: prompt p's j-th answer is p * n + j. `echoes` holds one
    per prompt; an echo stands before the first token of every choice. `prompt_only` (echo with
    `max_tokens` 0) drops the one token that the engine has to make. `prompts_token_ids`, one entry
    per prompt, are for a client that wants to see all tokens.
    """

    def __init__(
        self,
        head: AnswerHead,
        *,
        num_choices: int,
        echoes: Sequence[Echo],
        include_usage: bool,
        logprobs: bool,
        prompt_only: bool = False,
        prompts_token_ids: Sequence[Sequence[int]] | None = None,
    ) -> None:
        self._head = head
        self._n = num_choices // len(echoes)
        self._echoes = echoes
        self._include_usage = include_usage
        self._logprobs = logprobs
        self._prompt_only = prompt_only
        self._prompts = prompts_token_ids
        self._started = [False] * num_choices
        self._offsets = [0] * num_choices
        self._prompt_logprobs: dict[int, tuple[TokenLogprob | None, ...]] = {}
        self.sign("")

    def sign(self, fingerprint: str) -> None:
        """See AnswerFormat."""
        self._head = replace(self._head, fingerprint=fingerprint)
        self._start = [self._cut(choice)[0] for choice in range(len(self._started))]
        self._end = self._cut(0)[1]

    def opening(self) -> bytes:
        """Nothing: a text has no role."""
        return b""

    def event(self, choice: int, delta: TokenDelta) -> bytes:
        """See AnswerFormat."""
        is_first = not self._started[choice]
        text, logprobs = self._take(choice, delta)
        if self._prompts is None and delta.finish_reason is None and logprobs is None:
            return self._start[choice] + orjson.dumps(text) + self._end if text else b""
        ids = self._ids(choice, delta.token_ids, with_prompt=is_first)
        return self._chunk(choice, text, logprobs, delta.finish_reason, ids)

    def usage_event(self, usage: Usage) -> bytes:
        """See AnswerFormat."""
        if not self._include_usage:
            return b""
        chunk = {**self._top(), "choices": [], "usage": usage.to_dict()}
        return EVENT_START + orjson.dumps(chunk) + EVENT_END

    def body(self, choices: Sequence[Collected], usage: Usage) -> bytes:
        """See AnswerFormat."""
        items = []
        for index, choice in enumerate(choices):
            parts = [self._take(index, delta) for delta in choice.deltas]
            text = "".join(part for part, _ in parts)
            logprobs = _joined([part for _, part in parts if part]) if self._logprobs else None
            ids = self._ids(index, choice.token_ids, with_prompt=True)
            items.append(self._choice(index, text, logprobs, choice.finish_reason, ids))
        return orjson.dumps({**self._top(), "choices": items, "usage": usage.to_dict()})

    def _take(self, choice: int, delta: TokenDelta) -> tuple[str, dict[str, Any] | None]:
        """Text and log-probabilities that `delta` adds to `choice`, the echo included."""
        prompt = choice // self._n
        if delta.prompt_logprobs:
            self._prompt_logprobs[prompt] = delta.prompt_logprobs
        if self._prompt_only:
            delta = replace(delta, text="", logprobs=())
        tokens: tuple[TokenLogprob | None, ...] = delta.logprobs
        text = delta.text
        echo = self._echoes[prompt]
        if not self._started[choice]:
            self._started[choice] = True
            text = echo.text + text
            tokens = (self._prompt_logprobs.get(prompt, ()) if echo.text else ()) + tokens
        if not self._logprobs or not tokens:
            return text, None
        entry = _logprobs_of(tokens, self._offsets[choice], echo.first_token)
        self._offsets[choice] += len(text)
        return text, entry

    def _ids(
        self, choice: int, token_ids: Sequence[int], *, with_prompt: bool
    ) -> Mapping[str, Any]:
        """What a choice says of its tokens; nothing where the client does not ask for them."""
        if self._prompts is None:
            return _NOTHING
        return {
            "prompt_token_ids": self._prompts[choice // self._n] if with_prompt else None,
            "token_ids": () if self._prompt_only else token_ids,
        }

    def _top(self) -> dict[str, Any]:
        return self._head.top("text_completion")

    def _choice(
        self,
        choice: int,
        text: str,
        logprobs: Any,
        finish_reason: str | None,
        ids: Mapping[str, Any],
    ) -> dict[str, Any]:
        return {
            "index": choice,
            "text": text,
            "logprobs": logprobs,
            "finish_reason": finish_reason,
            **ids,
        }

    def _chunk(
        self,
        choice: int,
        text: str,
        logprobs: Any,
        finish_reason: str | None,
        ids: Mapping[str, Any] = _NOTHING,
    ) -> bytes:
        chunk = {
            **self._top(),
            "choices": [self._choice(choice, text, logprobs, finish_reason, ids)],
        }
        if self._include_usage:
            chunk["usage"] = None
        return EVENT_START + orjson.dumps(chunk) + EVENT_END

    def _cut(self, choice: int) -> tuple[bytes, bytes]:
        """A chunk with empty text, cut where the text goes."""
        before, _, after = self._chunk(choice, "", None, None).rpartition(b'"text":""')
        return before + b'"text":', after


def _logprobs_of(
    tokens: Sequence[TokenLogprob | None], offset: int, first_token: str
) -> dict[str, Any]:
    """The four parallel lists of the API; a prompt's first token has no probability."""
    entry: dict[str, Any] = {"tokens": [], "token_logprobs": [], "top_logprobs": []}
    offsets: list[int] = []
    for token in tokens:
        spelled = token.token if token else first_token
        entry["tokens"].append(spelled)
        entry["token_logprobs"].append(token.logprob if token else None)
        entry["top_logprobs"].append(_top_of(token) if token else None)
        offsets.append(offset)
        offset += len(spelled)
    return {**entry, "text_offset": offsets}


def _top_of(token: TokenLogprob) -> dict[str, float]:
    return {text: logprob for _, text, logprob in token.top} or {token.token: token.logprob}


def _joined(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    names = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
    return {name: [item for entry in entries for item in entry[name]] for name in names}
