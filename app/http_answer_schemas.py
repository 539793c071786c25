"""What the routes answer, for the OpenAPI document. The wire forms are built elsewhere."""

from typing import Any, Literal

from pydantic import Field

from app.http_structure_schemas import Wire


class CachedTokens(Wire):
    """`usage.prompt_tokens_details`."""

    cached_tokens: int


class UsageInfo(Wire):
    """Tokens of one request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


class ChosenToken(Wire):
    """One token with its natural-log probability."""

    token: str
    logprob: float
    bytes: list[int]


class ChatToken(ChosenToken):
    """A drawn token and its alternatives."""

    top_logprobs: list[ChosenToken]


class ChatLogprobs(Wire):
    """`logprobs` of a chat choice."""

    content: list[ChatToken]
    refusal: None


class AnsweredFunction(Wire):
    """The function that the model calls; `arguments` is JSON as text."""

    name: str
    arguments: str


class AnsweredCall(Wire):
    """One call of a tool."""

    id: str
    type: Literal["function"]
    function: AnsweredFunction


class AnswerMessage(Wire):
    """The assistant's message."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: list[AnsweredCall] = Field(default=[])


class ChatChoice(Wire):
    """One answer to a conversation."""

    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls"]
    token_ids: list[int] | None = None


class ChatCompletion(Wire):
    """`system_fingerprint` names the adapter's bytes: equal bytes have equal fingerprints."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: UsageInfo
    prompt_token_ids: list[int] | None = None


class FunctionPart(Wire):
    """What a chunk adds to a called function."""

    name: str | None = None
    arguments: str | None = None


class CallPart(Wire):
    """What a chunk adds to a call; `id` and `type` come once."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionPart | None = None


class MessagePart(Wire):
    """What a chunk adds to the message."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    tool_calls: list[CallPart] | None = None


class ChatChunkChoice(Wire):
    """One choice's part of a chunk."""

    index: int
    delta: MessagePart
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls"] | None
    token_ids: list[int] | None = None


class ChatCompletionChunk(Wire):
    """One event of a streamed chat; the last one before `[DONE]` may carry the usage alone."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChunkChoice]
    usage: UsageInfo | None = None
    prompt_token_ids: list[int] | None = None


class TextLogprobs(Wire):
    """Four lists, an entry a token."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class TextChoice(Wire):
    """One continuation."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Literal["stop", "length"] | None
    prompt_token_ids: list[int] | None = None
    token_ids: list[int] | None = None


class Completion(Wire):
    """A text completion; an event of a stream has the same form."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[TextChoice]
    usage: UsageInfo | None = None


class Tokens(Wire):
    """What /v1/tokenize answers."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None


class DetokenizedText(Wire):
    """What /v1/detokenize answers."""

    prompt: str


class ErrorFields(Wire):
    """`code` is stable; `param` names the field at fault."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorAnswer(Wire):
    """Every failure of every route."""

    error: ErrorFields


class Status(Wire):
    """Whether the server lives, or is ready."""

    status: Literal["ok", "ready"]


class ModelEntry(Wire):
    """A model: the base or an adapter."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: str
    parent: str | None


class ModelPage(Wire):
    """One page of models."""

    object: Literal["list"]
    data: list[ModelEntry]
    first_id: str | None
    last_id: str | None
    has_more: bool


class AdapterEntry(Wire):
    """One version of an adapter."""

    id: str
    object: Literal["adapter"]
    name: str
    version: int
    digest: str = Field(pattern="^[0-9a-f]{64}$")
    size_bytes: int
    rank: int
    num_modules: int
    base_fingerprint: str
    created: int


class PinnedAdapter(AdapterEntry):
    """A version and whether it is kept."""

    pinned: bool


class AdapterVersion(PinnedAdapter):
    """One of an adapter's kept versions."""

    current: bool


class Readers(Wire):
    """Who else may use an adapter."""

    name: str
    public: bool
    shared_with: list[str]


class AdapterDetails(AdapterEntry):
    """The current version, all kept ones, and who else may use it."""

    versions: list[AdapterVersion]
    public: bool
    shared_with: list[str]


class AdapterPage(Wire):
    """One page of adapters."""

    object: Literal["list"]
    data: list[AdapterEntry]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedAdapter(Wire):
    """An adapter that is gone."""

    id: str
    object: Literal["adapter.deleted"]
    deleted: Literal[True]


class Upload(Wire):
    """The multipart form of a publish."""

    config: Any = Field(json_schema_extra={"type": "string", "format": "binary"})
    weights: Any = Field(json_schema_extra={"type": "string", "format": "binary"})
