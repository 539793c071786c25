"""What bounds the form of an answer beside sampling: structured output and tools.

Knows nothing of vLLM or of HTTP: `vllm_tools.py` and `grammar_judge.py` do the work.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from contracts.adapters import TenantId
from contracts.errors import InvalidRequest
from contracts.generation import Structure, TokenDelta

MAX_SPEC_BYTES = 64 * 1024
MAX_NESTING = 32


class GrammarCheck(Protocol):
    """Whether the engine can keep to a structure, asked before the engine hears of it."""

    async def require(self, structure: Structure, param: str, tenant: TenantId) -> None:
        """Raises InvalidRequest that names `param`, Overloaded where too many of `tenant` wait."""
        ...

    async def aclose(self) -> None:
        """End what works for it."""
        ...


@dataclass(frozen=True, slots=True)
class Parsed:
    """A whole answer's text, read: `tool_calls` as the API gives them, or none."""

    content: str | None
    tool_calls: Sequence[Mapping[str, Any]] = ()


class ToolReader(Protocol):
    """Reads one choice of an answer for calls of tools; one reader a choice."""

    def take(self, delta: TokenDelta) -> Mapping[str, Any]:
        """What a delta adds, as the API's `delta` object; empty where nothing is sure yet."""
        ...

    def whole(self, text: str, token_ids: Sequence[int]) -> Parsed:
        """The same for a whole answer."""
        ...


class ToolRequest(Protocol):
    """One chat request that may call tools."""

    @property
    def structure(self) -> Structure | None:
        """What the answer is bound to, the forms of calls included."""
        ...

    @property
    def skip_special_tokens(self) -> bool:
        """False where a call is marked by a special token."""
        ...

    def reader(self) -> ToolReader:
        """A fresh reader for one choice."""
        ...


class ToolParsing(Protocol):
    """How the model writes calls of tools. Reads bodies, and what the model has written."""

    async def read(self, body: Mapping[str, Any]) -> ToolRequest:
        """`body` is a checked chat request. Raises InvalidRequest."""
        ...


class NoGrammars:
    """Refuses every structure: for an engine that can keep to none."""

    async def require(self, structure: Structure, param: str, tenant: TenantId) -> None:
        """See GrammarCheck."""
        raise InvalidRequest(f"'{param}': this server has no structured output", param)

    async def aclose(self) -> None:
        """See GrammarCheck."""


class NoTools:
    """Refuses every tool."""

    async def read(self, body: Mapping[str, Any]) -> ToolRequest:
        """See ToolParsing."""
        raise InvalidRequest("'tools': this server calls no tools", "tools")


def require_bounded(structure: Structure, param: str) -> None:
    """The bounds that need no compiler. Raises InvalidRequest."""
    if len(structure.spec) > MAX_SPEC_BYTES or len(structure.spec.encode()) > MAX_SPEC_BYTES:
        raise InvalidRequest(f"'{param}' is over {MAX_SPEC_BYTES} bytes", param)
    if structure.kind in ("json_schema", "structural_tag"):
        _require_flat(structure.spec, param)


def _require_flat(text: str, param: str) -> None:
    try:
        level = [json.loads(text)]
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"'{param}' is not a JSON document", param) from error
    for _ in range(MAX_NESTING):
        level = [child for node in level for child in _children(node)]
        if not level:
            return
    raise InvalidRequest(f"'{param}' nests more than {MAX_NESTING} levels deep", param)


def _children(node: Any) -> Sequence[Any]:
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else ()
