"""What POST /v1/chat/completions accepts beside the common fields: messages and tools."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from app.http_schemas import MAX_LOGPROBS, GenerationFields, Text
from app.http_structure_schemas import Wire

MAX_TOOLS = 128
FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]


class TextPart(Wire):
    """One part of a message's content."""

    type: Literal["text"]
    text: str


class CalledFunction(Wire):
    """What an assistant called: `arguments` is a JSON object as text."""

    name: FunctionName
    arguments: str


class ToolCall(Wire):
    """One call in an assistant's message, as an earlier answer had it."""

    id: Annotated[str, Field(min_length=1, max_length=256)]
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = None

    def for_template(self) -> dict[str, Any]:
        """Chat templates want the arguments as an object. Raises ValueError."""
        arguments = json.loads(self.function.arguments or "{}")
        if not isinstance(arguments, dict):
            raise TypeError
        function = {"name": self.function.name, "arguments": arguments}
        return {"id": self.id, "type": "function", "function": function}


class ChatMessage(Wire):
    """One message. Fields that clients copy from an answer are accepted while they are null."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    name: Text | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=MAX_TOOLS)] | None = None
    tool_call_id: Text | None = None
    content: Annotated[
        str | Annotated[list[TextPart], Field(min_length=1)] | None, Field(validate_default=True)
    ] = None
    refusal: None = None
    function_call: None = None
    audio: None = None
    annotations: list[None] | None = None

    @field_validator("tool_calls", "tool_call_id")
    @classmethod
    def _belong_to_a_role(cls, value: Any, info: ValidationInfo) -> Any:
        owner = "assistant" if info.field_name == "tool_calls" else "tool"
        if value is not None and info.data.get("role", owner) != owner:
            raise ValueError(f"only a message of role '{owner}' has it")
        return value

    @field_validator("content")
    @classmethod
    def _is_there(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None and not info.data.get("tool_calls"):
            raise ValueError("Field required")
        return value

    @property
    def text(self) -> str:
        """The content as one string."""
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        return "".join(part.text for part in self.content)

    def for_template(self) -> Mapping[str, Any]:
        """The message as a chat template knows it. Raises ValueError, TypeError."""
        # Templates know the older word only.
        role = "system" if self.role == "developer" else self.role
        message: dict[str, Any] = {"role": role, "content": self.text}
        if self.name is not None:
            message["name"] = self.name
        if self.tool_call_id is not None:
            message["tool_call_id"] = self.tool_call_id
        if self.tool_calls:
            message["tool_calls"] = [call.for_template() for call in self.tool_calls]
        return message


class FunctionDefinition(Wire):
    """A function that the model may call; `parameters` is a JSON schema."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Wire):
    """One of `tools`."""

    type: Literal["function"]
    function: FunctionDefinition


class NamedFunction(Wire):
    """The function of a named `tool_choice`."""

    name: FunctionName


class NamedToolChoice(Wire):
    """`tool_choice` that names one function."""

    type: Literal["function"]
    function: NamedFunction


Messages = Annotated[list[ChatMessage], Field(min_length=1, max_length=4096)]


class TemplateFields(Wire):
    """What the chat template sees beside the messages; tokenising a chat takes it, too."""

    tools: Annotated[list[Tool], Field(min_length=1, max_length=MAX_TOOLS)] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: (
        Annotated[dict[str, bool | int | float | Text | None], Field(max_length=16)] | None
    ) = None

    @model_validator(mode="after")
    def _check_end(self) -> Self:
        if self.add_generation_prompt and self.continue_final_message:
            raise ValueError("'continue_final_message' excludes 'add_generation_prompt'")
        for name in {"messages", *TemplateFields.model_fields} & (
            self.chat_template_kwargs or {}
        ).keys():
            raise ValueError(f"'chat_template_kwargs' has no '{name}': it is a field of its own")
        return self

    def template_options(self) -> dict[str, Any]:
        """What goes to the template beside the messages."""
        ends_open = bool(self.continue_final_message)
        adds = not ends_open if self.add_generation_prompt is None else self.add_generation_prompt
        tools = [tool.model_dump(exclude_none=True) for tool in self.tools or ()]
        return {
            "tools": tools or None,
            "add_generation_prompt": adds,
            "continue_final_message": ends_open,
            **(self.chat_template_kwargs or {}),
        }


def template_messages(messages: Sequence[ChatMessage]) -> list[Mapping[str, Any]]:
    """All messages. Raises ValueError that names the message whose call is not JSON."""
    made = []
    for place, message in enumerate(messages):
        try:
            made.append(message.for_template())
        except (ValueError, TypeError, RecursionError):
            raise ValueError(
                f"'messages.{place}.tool_calls': arguments must be a JSON object"
            ) from None
    return made


class ChatBody(TemplateFields, GenerationFields):
    """POST /v1/chat/completions."""

    messages: Messages
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedToolChoice | None = None
    parallel_tool_calls: bool | None = None

    @model_validator(mode="after")
    def _check_chat(self) -> Self:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("'top_logprobs' is only allowed when 'logprobs' is true")
        if self.max_tokens == 0:
            raise ValueError("'max_tokens' must be at least 1")
        if self.tool_choice not in (None, "none") and not self.tools:
            raise ValueError("'tool_choice' is only allowed with 'tools'")
        if self.resume_token_ids and self.calls_tools:
            raise ValueError("'resume_token_ids' cannot be used where the answer may call 'tools'")
        return self

    @property
    def calls_tools(self) -> bool:
        """Whether the answer is read for calls."""
        return bool(self.tools) and self.tool_choice != "none"

    @property
    def names_a_tool(self) -> bool:
        """Whether one function must be called."""
        return isinstance(self.tool_choice, NamedToolChoice)
