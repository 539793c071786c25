"""Calls of tools by vLLM's own request schema and parsers. The import takes seconds: once a start.

Nothing of it touches a device, but it loads torch: some 450 MiB of the door's memory.
"""

import asyncio
import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import ValidationError
from transformers import PreTrainedTokenizerFast
from vllm.entrypoints.generate.base.protocol import DeltaMessage
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.exceptions import VLLMClientError, VLLMValidationError
from vllm.parser import Parser, ParserManager
from vllm.sampling_params import StructuredOutputsParams

from app.structure import Parsed, ToolRequest
from contracts.errors import EngineFailed, InvalidRequest
from contracts.generation import Structure, TokenDelta

_PARSE_FIELDS = (
    "model",
    "messages",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "structured_outputs",
    "chat_template_kwargs",
)
"""What a parser may look at; sampling is not its business."""


class VllmTools:
    """ToolParsing by the parser that vLLM knows as `tool_parser`."""

    def __init__(self, parser: type[Parser], tokenizer: PreTrainedTokenizerFast) -> None:
        self._parser = parser
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, tool_parser: str, tokenizer: PreTrainedTokenizerFast) -> Self:
        """Raises InvalidRequest where vLLM has no such parser or it cannot read this model."""
        try:
            parser = ParserManager.get_parser(
                tool_parser_name=tool_parser, enable_auto_tools=True, tokenizer=tokenizer
            )
        except TypeError as error:
            raise InvalidRequest(f"server.tool_parser: {error}", "server.tool_parser") from error
        assert parser is not None
        return cls(parser, tokenizer)

    async def read(self, body: Mapping[str, Any]) -> ToolRequest:
        """See ToolParsing. On a thread: schemas of tools become a grammar here."""
        return await asyncio.to_thread(self._read, body)

    def _read(self, body: Mapping[str, Any]) -> "VllmToolRequest":
        fields = {name: body[name] for name in _PARSE_FIELDS if body.get(name) is not None}
        try:
            request = ChatCompletionRequest.model_validate(fields)
            adjusted = self._make(request).adjust_request(request)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            param = str(first["loc"][0]) if first["loc"] else "tools"
            raise InvalidRequest(first["msg"].removeprefix("Value error, "), param) from None
        except VLLMValidationError as error:
            message = str(error).partition(" (parameter=")[0]
            raise InvalidRequest(message, error.parameter or "tools") from None
        except (VLLMClientError, ValueError, TypeError, KeyError) as error:
            raise InvalidRequest(f"'tools' cannot be used: {error}", "tools") from error
        assert isinstance(adjusted, ChatCompletionRequest)
        return VllmToolRequest(self, adjusted)

    def _make(self, request: ChatCompletionRequest) -> Parser:
        return self._parser(self._tokenizer, request.tools)


class VllmToolRequest:
    """One request as its parser wants it."""

    def __init__(self, tools: VllmTools, request: ChatCompletionRequest) -> None:
        self._tools = tools
        self._request = request
        params = request.extract_structured_outputs()
        self.structure = None if params is None else _structure(params)
        self.skip_special_tokens = request.skip_special_tokens

    def reader(self) -> "VllmToolReader":
        """See ToolRequest."""
        return VllmToolReader(self._tools._make(self._request), self._request)


class VllmToolReader:
    """One choice through one parser, which keeps what it has seen."""

    def __init__(self, parser: Parser, request: ChatCompletionRequest) -> None:
        self._parser = parser
        self._request = request
        self._only_first = request.parallel_tool_calls is False

    def take(self, delta: TokenDelta) -> Mapping[str, Any]:
        """See ToolReader."""
        try:
            message = self._parser.parse_delta(
                delta.text,
                list(delta.token_ids),
                self._request,
                [],
                finished=delta.finish_reason is not None,
            )
        except Exception as error:
            raise _unreadable(error) from error
        return {} if message is None else self._wire(message)

    def whole(self, text: str, token_ids: Sequence[int]) -> Parsed:
        """See ToolReader."""
        try:
            _, content, calls = self._parser.parse(
                text, self._request, enable_auto_tools=True, model_output_token_ids=token_ids
            )
        except Exception as error:
            raise _unreadable(error) from error
        kept = (calls or [])[:1] if self._only_first else calls or []
        return Parsed(
            content,
            [
                {
                    "id": call.id or f"chatcmpl-tool-{uuid.uuid4().hex[:16]}",
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in kept
            ],
        )

    def _wire(self, message: DeltaMessage) -> Mapping[str, Any]:
        calls = [c for c in message.tool_calls if c.index == 0 or not self._only_first]
        delta: dict[str, Any] = {"content": message.content} if message.content else {}
        if calls:
            delta["tool_calls"] = [call.model_dump(exclude_none=True) for call in calls]
        return delta


def _unreadable(error: Exception) -> EngineFailed:
    return EngineFailed(f"The answer could not be read for calls ({type(error).__name__}).")


def _structure(params: StructuredOutputsParams) -> Structure:
    if params.json_object:
        return Structure("json_object")
    if params.json is not None:
        text = params.json if isinstance(params.json, str) else json.dumps(params.json)
        return Structure("json_schema", text)
    if params.choice is not None:
        return Structure("choice", json.dumps(params.choice))
    if params.regex is not None:
        return Structure("regex", params.regex)
    if params.grammar is not None:
        return Structure("grammar", params.grammar)
    return Structure("structural_tag", params.structural_tag or "")
