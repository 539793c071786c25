import asyncio
import sys
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from app.grammar_judge import GrammarJudge
from contracts.adapters import DEFAULT_TENANT as ME
from contracts.adapters import TenantId
from contracts.errors import InvalidRequest, NotReady, Overloaded
from contracts.generation import Structure

WORKER = """
import json, os, sys, time
print("ready", flush=True)
for line in sys.stdin:
    spec = json.loads(line)["spec"]
    with open(sys.argv[1], "a") as log:
        log.write(spec + "\\n")
    if spec == "crash":
        os.abort()
    if spec == "slow":
        time.sleep(60)
    print(json.dumps({"error": "it is bad" if spec == "bad" else None}), flush=True)
"""


def make_judge(folder: Path, max_waiting: int = 8) -> GrammarJudge:
    """Over a worker that keeps a list of what it was asked."""
    command = (sys.executable, "-c", WORKER, str(folder / "asked"))
    return GrammarJudge(command, timeout_s=0.2, grace_s=0.1, max_waiting=max_waiting)


def asked(folder: Path) -> list[str]:
    return (folder / "asked").read_text().splitlines()


def regex(spec: str) -> Structure:
    return Structure("regex", spec)


async def test_a_verdict_is_asked_for_once(tmp_path: Path) -> None:
    judge = make_judge(tmp_path)
    for _ in range(3):
        await judge.require(regex("good"), "x", ME)
        with pytest.raises(InvalidRequest, match="'x' cannot be kept to: it is bad") as caught:
            await judge.require(regex("bad"), "x", ME)
        assert caught.value.param == "x"
    assert asked(tmp_path) == ["good", "bad"]
    await judge.aclose()


async def test_equal_texts_of_different_kinds_are_different(tmp_path: Path) -> None:
    judge = make_judge(tmp_path)
    await judge.require(Structure("regex", "a"), "x", ME)
    await judge.require(Structure("grammar", "a"), "x", ME)
    assert asked(tmp_path) == ["a", "a"]
    await judge.aclose()


@pytest.mark.parametrize(("spec", "why"), [("crash", "compiler failed"), ("slow", "within 0.2 s")])
async def test_what_ends_the_worker_is_refused_and_the_next_is_served(
    tmp_path: Path, spec: str, why: str
) -> None:
    judge = make_judge(tmp_path)
    with pytest.raises(InvalidRequest, match=why):
        await judge.require(regex(spec), "x", ME)
    await judge.require(regex("good"), "x", ME)
    with pytest.raises(InvalidRequest, match=why):
        await judge.require(regex(spec), "x", ME)
    assert asked(tmp_path) == [spec, "good"]
    await judge.aclose()


async def test_a_caller_that_leaves_does_not_leave_its_answer_to_the_next(tmp_path: Path) -> None:
    judge = make_judge(tmp_path)
    await judge.require(regex("first"), "x", ME)
    leaving = asyncio.ensure_future(judge.require(regex("slow"), "x", ME))
    await asyncio.sleep(0.05)
    leaving.cancel()
    with pytest.raises(InvalidRequest, match="it is bad"):
        await judge.require(regex("bad"), "x", ME)
    await judge.require(regex("good"), "x", ME)
    await judge.aclose()


async def test_the_queue_is_bounded(tmp_path: Path) -> None:
    judge = make_judge(tmp_path, max_waiting=2)
    waiting = [asyncio.ensure_future(judge.require(regex(f"g{i}"), "x", ME)) for i in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await judge.require(regex("one more"), "x", ME)
    await asyncio.gather(*waiting)
    await judge.aclose()


async def test_requests_for_the_same_structure_wait_together(tmp_path: Path) -> None:
    judge = make_judge(tmp_path, max_waiting=2)
    structures = [regex("good"), regex("other")] * 20
    waiting = [asyncio.ensure_future(judge.require(s, "x", ME)) for s in structures]
    await asyncio.sleep(0)
    waiting[0].cancel()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert results[1:] == [None] * 39
    assert asked(tmp_path) == ["good", "other"]
    assert "tenants=0" in repr(judge)
    await judge.aclose()


async def test_an_end_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    judge = make_judge(tmp_path)
    await judge.require(regex("good"), "x", ME)
    waiting = asyncio.ensure_future(judge.require(regex("slow"), "x", ME))
    await asyncio.sleep(0.05)
    await judge.aclose()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert "tenants=0" in repr(judge)


async def test_a_tenant_with_many_delays_another_by_one_at_most(tmp_path: Path) -> None:
    judge = make_judge(tmp_path)
    await judge.require(regex("first"), "x", ME)
    many = [asyncio.ensure_future(judge.require(regex(f"m{i}"), "x", ME)) for i in range(6)]
    await asyncio.sleep(0)
    await judge.require(regex("mine"), "x", TenantId("other"))
    await asyncio.gather(*many)
    assert asked(tmp_path).index("mine") <= 2
    with pytest.raises(InvalidRequest):
        await judge.require(regex("bad"), "x", TenantId("other"))
    assert "tenants=0" in repr(judge)
    await judge.aclose()


async def test_what_is_too_large_reaches_no_worker(tmp_path: Path) -> None:
    judge = make_judge(tmp_path)
    with pytest.raises(InvalidRequest, match="over 65536 bytes"):
        await judge.require(regex("a" * 70_000), "x", ME)
    assert not (tmp_path / "asked").exists()
    await judge.aclose()


@pytest.mark.parametrize("command", [("/no/such/program",), (sys.executable, "-c", "pass")])
async def test_a_worker_that_does_not_start_is_not_the_callers_fault(
    command: tuple[str, ...],
) -> None:
    judge = GrammarJudge(command)
    with pytest.raises(NotReady):
        await judge.require(regex("good"), "x", ME)
    await judge.aclose()


async def test_nothing_is_left_behind(tmp_path: Path) -> None:
    before = set(psutil.Process().children())
    judge = make_judge(tmp_path)
    await judge.require(regex("good"), "x", ME)
    assert set(psutil.Process().children()) > before
    await judge.aclose()
    assert set(psutil.Process().children()) == before
