"""The real compiler, given what would hold up or end an engine."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from app.grammar_judge import GrammarJudge, worker_command
from contracts.adapters import DEFAULT_TENANT as ME
from contracts.errors import InvalidRequest
from contracts.generation import Structure, StructureKind

MODEL = Path(__file__).resolve().parents[2] / "models" / "smollm2-135m-instruct"
TIMEOUT_S = 2.0

pytestmark = [pytest.mark.vllm, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def judge() -> AsyncIterator[GrammarJudge]:
    judge = GrammarJudge(worker_command(str(MODEL), TIMEOUT_S))
    await judge.require(Structure("json_object"), "x", ME)
    yield judge
    await judge.aclose()


async def longest_pause_s(work: Any) -> float:
    """How long the event loop stood still at a time while `work` ran."""
    longest, task = 0.0, asyncio.ensure_future(work)
    while not task.done():
        began_s = time.perf_counter()
        await asyncio.sleep(0.002)
        longest = max(longest, time.perf_counter() - began_s)
    await task
    return longest


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("json_schema", {"type": "object", "properties": {"a": {"type": "integer"}}}),
        ("json_schema", {"enum": [f"v{i}" for i in range(1000)]}),
        ("json_schema", {"type": "array", "items": {"type": "null"}, "maxItems": 10_000}),
        ("choice", ["yes", "no"]),
        ("regex", r"\d{3}-[a-z]+"),
        ("grammar", 'root ::= "a" root | "b"'),
    ],
)
async def test_what_the_engine_can_keep_to_passes(
    judge: GrammarJudge, kind: StructureKind, spec: Any
) -> None:
    text = spec if isinstance(spec, str) else json.dumps(spec)
    assert await longest_pause_s(judge.require(Structure(kind, text), "x", ME)) < 0.2


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("json_schema", {"type": "wibble"}),
        ("json_schema", {"type": "integer", "multipleOf": 3}),
        ("json_schema", {"$ref": "#"}),
        ("json_schema", [1]),
        ("regex", "(("),
        ("regex", "((a|b|ab){1,50}){1,50}x"),
        ("regex", "(" * 20_000 + "a" + ")" * 20_000),
        ("regex", "((((a{1,99}){1,99}){1,99}){1,99}){1,99}"),
        ("grammar", "root ::= " + "(" * 20_000 + '"a"' + ")" * 20_000),
        ("grammar", "no grammar at all"),
    ],
)
async def test_what_would_hold_it_up_or_end_it_is_refused_in_time(
    judge: GrammarJudge, kind: StructureKind, spec: Any
) -> None:
    text = spec if isinstance(spec, str) else json.dumps(spec)

    async def refused() -> None:
        with pytest.raises(InvalidRequest, match="'x' cannot be kept to"):
            await judge.require(Structure(kind, text), "x", ME)

    async with asyncio.timeout(TIMEOUT_S + 5):
        assert await longest_pause_s(refused()) < 0.2
