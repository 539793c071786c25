"""What both generation routes accept, and its reading into `Sampling`.

Fields of three kinds: served; `NOT_SERVED`, known to the OpenAI API or to vLLM but refused by name
unless they ask for nothing; anything else, refused as unknown. Numbers are strict: "5" is not 5.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from app.http_structure_schemas import ResponseFormat, StructuredOutputs, structure_of
from app.http_structure_schemas import Wire as Wire
from contracts.generation import Sampling, Structure

MAX_LOGPROBS = 20
MAX_CHOICES = 64
MAX_PROMPTS = 256

NOT_SERVED: Mapping[str, tuple[object, ...]] = {
    "add_special_tokens": (False,),
    "audio": (),
    "best_of": (1,),
    "cache_salt": (),
    "chat_template": (),
    "documents": (),
    "echo": (False,),
    "ec_transfer_params": (),
    "function_call": ("none",),
    "functions": (),
    "guided_choice": (),
    "guided_decoding_backend": (),
    "guided_grammar": (),
    "guided_json": (),
    "guided_regex": (),
    "include_reasoning": (True, False),
    "kv_transfer_params": (),
    "length_penalty": (1.0,),
    "logprob_token_ids": (),
    "media_io_kwargs": (),
    "mm_payload": ("tensors", "none"),
    "mm_processor_kwargs": (),
    "modalities": (["text"],),
    "prediction": (),
    "priority": (0,),
    "prompt_embeds": (),
    "prompt_logprobs": (),
    "reasoning_effort": ("none",),
    "repetition_detection": (),
    "request_id": (),
    "return_mm_kwargs": (False,),
    "return_prompt_text": (False,),
    "return_token_offsets": (False,),
    "return_tokens_as_token_ids": (False,),
    "routed_experts_prompt_start": (0,),
    "service_tier": ("auto", "default"),
    "session_id": (),
    "store": (False,),
    "stream_interval": (1,),
    "suffix": ("",),
    "thinking_token_budget": (),
    "truncate_prompt_tokens": (),
    "truncation_side": (),
    "use_beam_search": (False,),
    "verbosity": (),
    "vllm_xargs": (),
    "watermarking": (False,),
    "web_search_options": (),
}
"""Known fields that are not served, with the values (besides null) that ask for nothing."""

_INSTEAD = {name: "structured_outputs" for name in NOT_SERVED if name.startswith("guided_")}

Bias = Annotated[float, Field(ge=-100.0, le=100.0)]
Penalty = Annotated[float, Field(ge=-2.0, le=2.0)]
TokenId = Annotated[int, Field(ge=0, le=2**31 - 1)]
Text = Annotated[str, Field(max_length=4096)]
Word = Annotated[str, Field(min_length=1, max_length=256)]


class StreamOptions(Wire):
    """`stream_options`."""

    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None
    continuous_usage_stats: Literal[False] | None = None


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
    allowed_token_ids: Annotated[list[TokenId], Field(min_length=1, max_length=4096)] | None = None
    bad_words: Annotated[list[Word], Field(max_length=64)] | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    spaces_between_special_tokens: bool | None = None

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None

    return_token_ids: bool | None = None
    resume_token_ids: list[TokenId] | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_not_served(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        refused = (NOT_SERVED.keys() & body.keys()) - cls.model_fields.keys()
        for name in sorted(refused):
            if body[name] is not None and body[name] not in NOT_SERVED[name]:
                hint = f": use '{_INSTEAD[name]}'" if name in _INSTEAD else ""
                raise ValueError(f"field '{name}' is not supported by this server{hint}")
        return {name: value for name, value in body.items() if name not in refused}

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError("'stream_options' is only allowed when 'stream' is true")
        for key in self.logit_bias or ():
            if not (key.isascii() and key.isdigit() and len(key) <= 9):
                raise ValueError(f"'logit_bias' key '{key[:32]}' is not a token id")
        structure_of(self.response_format, self.structured_outputs)
        return self

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a chunk that carries the usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def num_choices(self) -> int:
        return self.n or 1

    @property
    def structure(self) -> tuple[Structure, str] | None:
        """What the text is bound to, and the field that says so."""
        return structure_of(self.response_format, self.structured_outputs)

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
            "structure": self.structure[0] if self.structure else None,
            "allowed_token_ids": tuple(self.allowed_token_ids or ()),
            "bad_words": tuple(self.bad_words or ()),
            "include_stop_str_in_output": self.include_stop_str_in_output,
            "skip_special_tokens": self.skip_special_tokens,
            "spaces_between_special_tokens": self.spaces_between_special_tokens,
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
    best_of: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    add_special_tokens: bool | None = None

    @model_validator(mode="after")
    def _check_resume(self) -> Self:
        if self.resume_token_ids and (len(self.prompts) > 1 or self.echo):
            raise ValueError("'resume_token_ids' take one prompt, and no 'echo'")
        return self

    @model_validator(mode="after")
    def _check_best_of(self) -> Self:
        if self.best_of is None:
            return self
        if self.best_of < self.num_choices:
            raise ValueError("'best_of' must be at least 'n'")
        if self.stream and self.best_of > self.num_choices:
            raise ValueError("'best_of' over 'n' cannot be streamed")
        return self

    @property
    def num_tries(self) -> int:
        """Answers that are made of each prompt, the best of which the client gets."""
        return self.best_of or self.num_choices

    @property
    def prompts(self) -> list[str | list[int]]:
        """Always a list: each a text or its token ids."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [self.prompt]
        return list(self.prompt)
