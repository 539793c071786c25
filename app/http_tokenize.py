"""POST /v1/tokenize and /v1/detokenize, in vLLM's shape."""

from typing import Annotated, Any, Self

from fastapi import APIRouter, Depends, Request
from pydantic import Field, model_validator

from app.door import Door
from app.http_auth import requires
from app.http_body import parse_body
from app.http_chat_schemas import Messages, TemplateFields
from app.http_completions import chat_prompt
from app.http_schemas import TokenId
from app.http_structure_schemas import Wire
from app.served_model import ServedModel
from contracts.access import Caller, Scope
from contracts.errors import InvalidRequest

MAX_TOKENS = 1 << 20
Model = Annotated[str, Field(min_length=1)] | None
"""A base model and its adapters share one tokenizer: where there is one, it may be left out."""


class TokenizeBody(TemplateFields):
    """POST /v1/tokenize: a `prompt`, or `messages` as the chat route takes them."""

    model: Model = None
    prompt: str | None = None
    messages: Messages | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("'prompt' or 'messages' is needed, and not both")
        return self


class DetokenizeBody(Wire):
    """POST /v1/detokenize."""

    model: Model = None
    tokens: Annotated[list[TokenId], Field(max_length=MAX_TOKENS)]


def tokenize_routes(door: Door) -> APIRouter:
    """Text to token ids and back, as `door` does it for its prompts."""
    router = APIRouter(prefix="/v1")
    generator = Annotated[Caller, Depends(requires(door, Scope.GENERATE))]

    @router.post("/tokenize")
    async def tokenize(request: Request, caller: generator) -> dict[str, Any]:
        """The token ids of a prompt or of a conversation."""
        body = await parse_body(request, TokenizeBody, door.limits.max_body_bytes)
        model = tokenizer_of(door, body.model, caller)
        if body.messages is not None:
            specials = bool(body.add_special_tokens)
            ids = await chat_prompt(model, body.messages, body, specials=specials)
        else:
            specials = body.add_special_tokens is not False
            ids = await model.prompts.encode_text(body.prompt or "", specials=specials)
        return {
            "count": len(ids),
            "max_model_len": (await model.info()).max_model_len_tokens,
            "tokens": ids,
            "token_strs": model.prompts.spell(ids) if body.return_token_strs else None,
        }

    @router.post("/detokenize")
    async def detokenize(request: Request, caller: generator) -> dict[str, Any]:
        """The text of token ids."""
        body = await parse_body(request, DetokenizeBody, door.limits.max_body_bytes)
        model = tokenizer_of(door, body.model, caller)
        vocab_size = (await model.info()).vocab_size
        if body.tokens and max(body.tokens) >= vocab_size:
            raise InvalidRequest(f"'tokens': token ids must be below {vocab_size}", "tokens")
        return {"prompt": await model.prompts.decode_text(body.tokens)}

    return router


def tokenizer_of(door: Door, model: str | None, caller: Caller) -> ServedModel:
    """The base model whose tokenizer is meant. Raises InvalidRequest, UnknownModel."""
    if model is None:
        return door.base(None)
    name = door.model(model)
    name.ref(caller)
    return door.served(name)
