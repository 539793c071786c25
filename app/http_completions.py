"""POST /v1/chat/completions and /v1/completions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from app.answer import Answer
from app.answer_format import AnswerFormat, AnswerHead
from app.ask import Ask
from app.chat_format import ChatFormat
from app.door import Door
from app.http_auth import requires
from app.http_body import parse_body
from app.http_chat_schemas import ChatBody, ChatMessage, TemplateFields, template_messages
from app.http_limits import timeout_of
from app.http_schemas import CompletionBody, GenerationFields
from app.http_sse import respond
from app.prompts import room_for_answer
from app.resume import require_resumable
from app.served_model import ServedModel
from app.structure import ToolRequest
from app.text_format import Echo, TextFormat
from app.tool_format import ToolFormat
from contracts.access import Caller, Scope
from contracts.errors import InvalidRequest
from contracts.generation import Sampling

DEFAULT_COMPLETION_TOKENS = 16
"""What the OpenAI API gives a text completion that does not say."""


def completion_routes(door: Door) -> APIRouter:
    """The two generation routes of `door`."""
    router = APIRouter(prefix="/v1")
    generator = Annotated[Caller, Depends(requires(door, Scope.GENERATE))]

    @router.post("/chat/completions")
    async def chat(request: Request, caller: generator) -> Response:
        """Answer a conversation."""
        body = await parse_body(request, ChatBody, door.limits.max_body_bytes)
        return await answer_chat(door, request, caller, body)

    @router.post("/completions")
    async def complete(request: Request, caller: generator) -> Response:
        """Continue one or many texts."""
        body = await parse_body(request, CompletionBody, door.limits.max_body_bytes)
        return await answer_text(door, request, caller, body)

    return router


async def answer_chat(door: Door, request: Request, caller: Caller, body: ChatBody) -> Response:
    """Admit, generate and answer one conversation."""
    name = door.model(body.model)
    name.ref(caller)
    model = door.served(name)
    model.require_room(caller)
    prompt = await chat_prompt(model, body.messages, body)
    max_tokens = body.max_completion_tokens or body.max_tokens
    room = room_for_answer(len(prompt), max_tokens, (await model.info()).max_model_len_tokens)
    sampling = replace(
        body.sampling(room), logprobs=(body.top_logprobs or 0) if body.logprobs else None
    )
    await _require_structure(model, caller, body)
    head = AnswerHead(f"chatcmpl-{door.new_id()}", body.model, int(door.clock()))
    plain = ChatFormat(
        head,
        num_choices=body.num_choices,
        include_usage=body.include_usage,
        logprobs=bool(body.logprobs),
        prompt_token_ids=prompt if body.return_token_ids else None,
    )
    wire: AnswerFormat = plain
    if body.calls_tools:
        tools = await model.tools.read(body.model_dump(by_alias=True, exclude_none=True))
        sampling = await _with_tools(model, caller, sampling, tools)
        readers = [tools.reader() for _ in range(body.num_choices)]
        wire = ToolFormat(plain, readers, named=body.names_a_tool)
    answering = Answering(head.id, (prompt,), (sampling,), body.num_choices)
    return await _answer(door, request, caller, body, answering, wire)


async def answer_text(
    door: Door, request: Request, caller: Caller, body: CompletionBody
) -> Response:
    """Admit, generate and answer one or many texts."""
    name = door.model(body.model)
    name.ref(caller)
    model = door.served(name)
    model.require_room(caller)
    info = await model.info()
    specials = body.add_special_tokens is not False
    prompts = [await _token_ids(model, p, info.vocab_size, specials) for p in body.prompts]
    samplings = [_text_sampling(body, len(p), info.max_model_len_tokens) for p in prompts]
    echoes = [_echo(model, body, p, ids) for p, ids in zip(body.prompts, prompts, strict=True)]
    await _require_structure(model, caller, body)
    head = AnswerHead(f"cmpl-{door.new_id()}", body.model, int(door.clock()))
    wire = TextFormat(
        head,
        num_choices=len(prompts) * body.num_choices,
        echoes=echoes,
        include_usage=body.include_usage,
        logprobs=body.logprobs is not None,
        prompt_only=body.max_tokens == 0,
        prompts_token_ids=prompts if body.return_token_ids else None,
    )
    answering = Answering(head.id, tuple(prompts), tuple(samplings), body.num_tries)
    return await _answer(door, request, caller, body, answering, wire)


async def chat_prompt(
    model: ServedModel,
    messages: Sequence[ChatMessage],
    fields: TemplateFields,
    *,
    specials: bool = False,
) -> tuple[int, ...]:
    """A conversation's token ids. Raises InvalidRequest."""
    try:
        made = template_messages(messages)
    except ValueError as error:
        raise InvalidRequest(str(error), "messages") from None
    return await model.prompts.encode_chat(made, fields.template_options(), specials=specials)


@dataclass(frozen=True, slots=True)
class Answering:
    """One request's prompts, how each is answered, and how many answers each gets."""

    id: str
    prompts: Sequence[tuple[int, ...]]
    samplings: Sequence[Sampling]
    num_tries: int


async def _answer(
    door: Door,
    request: Request,
    caller: Caller,
    body: GenerationFields,
    answering: Answering,
    wire: AnswerFormat,
) -> Response:
    timeout_s = timeout_of(request, door.limits.request_timeout_s)
    name = door.model(body.model)
    model = door.served(name)
    vocab_size = (await model.info()).vocab_size
    adapter = name.ref(caller)
    resumed = tuple(body.resume_token_ids or ())
    asks = []
    pairs = zip(answering.prompts, answering.samplings, strict=True)
    for place, (prompt, sampling) in enumerate(pairs):
        _check_sampling(sampling, vocab_size)
        require_resumable(resumed, sampling, vocab_size)
        request_id = f"{answering.id}-{place}"
        ask = Ask(
            request_id, body.model, adapter, prompt, sampling, caller, resumed_token_ids=resumed
        )
        asks.append(ask)
    streams = await door.open(model, asks)
    num_input_tokens = sum(ask.num_input_tokens for ask in asks)
    answer = Answer(streams, answering.num_tries, num_input_tokens, body.num_choices)
    return await respond(
        answer,
        wire,
        request.receive,
        stream=bool(body.stream),
        timeout_s=timeout_s,
    )


async def _require_structure(model: ServedModel, caller: Caller, body: GenerationFields) -> None:
    if body.structure is not None:
        await model.grammars.require(*body.structure, caller.tenant)


async def _with_tools(
    model: ServedModel, caller: Caller, sampling: Sampling, tools: ToolRequest
) -> Sampling:
    """Calls have a form of their own, which takes the place of what the body asked for."""
    if tools.structure is not None and tools.structure != sampling.structure:
        await model.grammars.require(tools.structure, "tools", caller.tenant)
    return replace(
        sampling,
        structure=tools.structure,
        skip_special_tokens=sampling.skip_special_tokens and tools.skip_special_tokens,
    )


async def _token_ids(
    model: ServedModel, prompt: str | list[int], vocab_size: int, specials: bool
) -> tuple[int, ...]:
    if isinstance(prompt, str):
        return await model.prompts.encode_text(prompt, specials=specials)
    if max(prompt) >= vocab_size:
        raise InvalidRequest(f"token ids must be below {vocab_size}, not {max(prompt)}", "prompt")
    return tuple(prompt)


def _text_sampling(body: CompletionBody, num_prompt_tokens: int, max_len_tokens: int) -> Sampling:
    max_tokens = DEFAULT_COMPLETION_TOKENS if body.max_tokens is None else body.max_tokens
    if max_tokens == 0 and not body.echo:
        raise InvalidRequest("'max_tokens' 0 needs 'echo'", "max_tokens")
    # The engine makes at least one token; with max_tokens 0 nobody gets to see it.
    room = room_for_answer(num_prompt_tokens, max(max_tokens, 1), max_len_tokens)
    ranks = body.num_tries > body.num_choices
    return replace(
        body.sampling(room),
        n=body.num_tries,
        logprobs=0 if ranks and body.logprobs is None else body.logprobs,
        prompt_logprobs=body.logprobs if body.echo else None,
    )


def _echo(
    model: ServedModel, body: CompletionBody, given: str | list[int], ids: Sequence[int]
) -> Echo:
    if not body.echo:
        return Echo()
    text = given if isinstance(given, str) else model.prompts.decode(ids)
    return Echo(text, model.prompts.decode(ids[:1]))


def _check_sampling(sampling: Sampling, vocab_size: int) -> None:
    """The bounds that only the model knows; the engine must not be the one to find them broken."""
    for name, ids in (
        ("logit_bias", [token_id for token_id, _ in sampling.logit_bias]),
        ("stop_token_ids", sampling.stop_token_ids),
        ("allowed_token_ids", sampling.allowed_token_ids),
    ):
        if ids and max(ids) >= vocab_size:
            raise InvalidRequest(f"'{name}': token ids must be below {vocab_size}", name)
    if sampling.min_tokens > sampling.max_tokens:
        raise InvalidRequest(
            f"'min_tokens' {sampling.min_tokens} is over the {sampling.max_tokens} that the "
            "answer may have",
            "min_tokens",
        )
