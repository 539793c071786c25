"""What the OpenAI API accepts: request bodies, and their reading into `Sampling`.

Fields of three kinds: served; `NOT_SERVED`, known to the API but refused by name unless they ask
for nothing; anything else, refused as unknown. Numbers are strict: "5" is not 5.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from contracts.generation import Sampling

MAX_LOGPROBS = 20
MAX_CHOICES = 64
MAX_PROMPTS = 256

NOT_SERVED: Mapping[str, tuple[object, ...]] = {
    "audio": (),
    "best_of": (1,),
    "function_call": ("none",),
    "functions": (),
    "guided_choice": (),
    "guided_grammar": (),
    "guided_json": (),
    "guided_regex": (),
    "modalities": (["text"],),
    "parallel_tool_calls": (True, False),
    "prediction": (),
    "reasoning_effort": ("none",),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "suffix": ("",),
    "tool_choice": ("none",),
    "tools": (),
    "verbosity": (),
    "web_search_options": (),
}
"""Known fields that are not served yet, with the values (besides null) that ask for nothing."""

Bias = Annotated[float, Field(ge=-100.0, le=100.0)]
Penalty = Annotated[float, Field(ge=-2.0, le=2.0)]
TokenId = Annotated[int, Field(ge=0, le=2**31 - 1)]
Text = Annotated[str, Field(max_length=4096)]


class Wire(BaseModel):
    """Strict, frozen, closed: the base of every body."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class StreamOptions(Wire):
    """`stream_options`."""

    include_usage: bool | None = None


class GenerationFields(Wire):
    """What chat and text completions share."""

    model: Annotated[str, Field(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    temperature: Annotated[float, Field(ge=0.0, le=2.0)] | None = None
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    stop: Text | Annotated[list[Text], Field(max_length=16)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Annotated[dict[str, Bias], Field(max_length=1024)] | None = None
    user: Text | None = None
    metadata: dict[str, Text] | None = None
    safety_identifier: Text | None = None
    prompt_cache_key: Text | None = None

    top_k: Annotated[int, Field(ge=-1)] | None = None
    min_p: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0.0, le=2.0)] | None = None
    min_tokens: Annotated[int, Field(ge=0)] | None = None
    ignore_eos: bool | None = None
    stop_token_ids: Annotated[list[TokenId], Field(max_length=64)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_not_served(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        refused = NOT_SERVED.keys() & body.keys() - cls.model_fields.keys()
        for name in sorted(refused):
            if body[name] is not None and body[name] not in NOT_SERVED[name]:
                raise ValueError(f"field '{name}' is not supported by this server")
        return {name: value for name, value in body.items() if name not in refused}

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError("'stream_options' is only allowed when 'stream' is true")
        for key in self.logit_bias or ():
            if not (key.isascii() and key.isdigit() and len(key) <= 9):
                raise ValueError(f"'logit_bias' key '{key[:32]}' is not a token id")
        return self

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a chunk that carries the usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def num_choices(self) -> int:
        return self.n or 1

    def sampling(self, max_tokens: int) -> Sampling:
        """Everything but the log-probabilities, which the two endpoints spell differently."""
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        given = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": max(self.top_k or 0, 0),
            "min_p": self.min_p,
            "n": self.n,
            "stop": tuple(text for text in stop if text),
            "stop_token_ids": tuple(self.stop_token_ids or ()),
            "seed": self.seed,
            "presence_penalty": self.presence_penalty,
            "frequency_penalty": self.frequency_penalty,
            "repetition_penalty": self.repetition_penalty,
            "logit_bias": tuple((int(k), v) for k, v in (self.logit_bias or {}).items()),
            "min_tokens": self.min_tokens,
            "ignore_eos": self.ignore_eos,
        }
        kept: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        return Sampling(max_tokens=max_tokens, **kept)


class CompletionBody(GenerationFields):
    """POST /v1/completions."""

    prompt: (
        str
        | Annotated[list[TokenId], Field(min_length=1)]
        | Annotated[list[str], Field(min_length=1, max_length=MAX_PROMPTS)]
        | Annotated[
            list[Annotated[list[TokenId], Field(min_length=1)]],
            Field(min_length=1, max_length=MAX_PROMPTS),
        ]
    )
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    echo: bool | None = None

    @property
    def prompts(self) -> list[str | list[int]]:
        """Always a list: each a text or its token ids."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [self.prompt]
        return list(self.prompt)


class TextPart(Wire):
    """One part of a message's content."""

    type: Literal["text"]
    text: str


class ChatMessage(Wire):
    """One message. Fields that clients copy from an answer are accepted while they are null."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextPart], Field(min_length=1)]
    name: Text | None = None
    refusal: None = None
    tool_calls: None = None
    function_call: None = None
    audio: None = None
    annotations: list[None] | None = None

    @property
    def text(self) -> str:
        """The content as one string."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class ChatBody(GenerationFields):
    """POST /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=4096)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None

    @model_validator(mode="after")
    def _check_chat(self) -> Self:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("'top_logprobs' is only allowed when 'logprobs' is true")
        if self.max_tokens == 0:
            raise ValueError("'max_tokens' must be at least 1")
        return self
