"""What the door asks of a replica and what comes back, one message per engine step."""

from dataclasses import dataclass, field
from typing import Literal

from contracts.adapters import DEFAULT_TENANT, AdapterKey, TenantId
from contracts.errors import ServingError

StructureKind = Literal[
    "json_schema", "json_object", "regex", "choice", "grammar", "structural_tag"
]
"""How a bound on the text is written."""


@dataclass(frozen=True, slots=True)
class Structure:
    """A bound on the text of an answer: the engine draws nothing that breaks it.

    `spec` is JSON text for "json_schema", "choice" (a list of strings) and "structural_tag", empty
    for "json_object" (any object), and the pattern or the EBNF itself for the others.
    """

    kind: StructureKind
    spec: str = ""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn. Defaults are the OpenAI API's.

    `logprobs` is the number of alternatives per token (0 gives the drawn token alone, None
    nothing); `prompt_logprobs` likewise for the prompt. `structure` bounds the text.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    n: int = 1
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    seed: int | None = None
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    min_tokens: int = 0
    ignore_eos: bool = False
    structure: Structure | None = None
    allowed_token_ids: tuple[int, ...] = ()
    bad_words: tuple[str, ...] = ()
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """One prompt for one adapter. `request_id` is unique among the requests in flight.

    `tenant` is who asks, whoever owns the adapter, and `weight` its share among tenants.
    `traceparent` is the W3C context of its trace, empty where none is recorded.
    `resumed_token_ids` are the first tokens of the answer, made by another replica or sent by the
    client: the answer goes on behind them, and brings them no more. `sampling` is that of the whole
    answer, of which its `max_tokens` are counted from the beginning; `n` is 1 where anything is
    resumed. `audio` is what a model that listens hears, 16 kHz mono int16 PCM in little-endian;
    empty for all others.
    """

    request_id: str
    adapter: AdapterKey
    prompt_token_ids: tuple[int, ...]
    sampling: Sampling
    tenant: TenantId = DEFAULT_TENANT
    weight: float = 1.0
    traceparent: str = ""
    resumed_token_ids: tuple[int, ...] = ()
    audio: bytes = field(default=b"", repr=False)

    @property
    def num_input_tokens(self) -> int:
        """Tokens that the engine reads before it makes one."""
        return len(self.prompt_token_ids) + len(self.resumed_token_ids)


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Natural-log probability of one token, with the alternatives asked for, best first."""

    token_id: int
    token: str
    logprob: float
    top: tuple[tuple[int, str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class TokenDelta:
    """New tokens of one choice of one request.

    `index` is the request's place in its group, `choice` counts 0..n-1. `finish_reason` is "stop",
    "length" or "abort" on the choice's last delta. `error` ends the whole request; then nothing
    else in the delta counts. `prompt_logprobs` comes once, on a request's first delta. `entered`
    alone says that the engine has taken the request, and brings nothing.
    """

    index: int
    choice: int = 0
    token_ids: tuple[int, ...] = ()
    text: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    num_cached_tokens: int = 0
    prompt_logprobs: tuple[TokenLogprob | None, ...] = ()
    error: ServingError | None = None
    entered: bool = False


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Everything that one engine step produced for one group of requests."""

    deltas: tuple[TokenDelta, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class StreamTicket:
    """Which groups may share a stream: those of one `door`, which counts its calls by `number`."""

    door: str
    number: int


@dataclass(frozen=True, slots=True)
class StepPart:
    """What one engine step produced for the group of call `number`; `is_last`: none follows."""

    number: int
    deltas: tuple[TokenDelta, ...] = ()
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class StepMessage:
    """What one engine step produced for all groups that share a stream.

    Or, as the only message of a call, whose stream brings its group: that of call `joined`.
    `load_tokens` is what the replica still has to do then, for all doors.
    """

    parts: tuple[StepPart, ...] = ()
    joined: int | None = None
    load_tokens: int | None = None
