"""A tenant with many queued requests in front of a real engine, and another with one."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from contracts.adapters import BASE, TenantId
from contracts.generation import GenerateRequest, Sampling
from replicas.fair_gate import FairGate
from tests.replicas.engine.models import make_tiny
from tests.replicas.engine.parts import Stack, make_adapter, make_config, running

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.timeout(200),
    # vLLM leaves its sockets' context to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

NUM_SEQS = 4


async def ends_before(stack: Stack, victim: GenerateRequest, crowd: list[GenerateRequest]) -> int:
    """How many of the crowd's requests end before the victim's first token; it comes last."""
    num_ended, is_busy = 0, asyncio.Event()

    async def follow(request: GenerateRequest) -> None:
        nonlocal num_ended
        async for batch in stack.replica.generate((request,)):
            assert [delta.error for delta in batch.deltas] == [None] * len(batch.deltas)
            num_ended += sum(delta.finish_reason is not None for delta in batch.deltas)
            if num_ended >= 2 * NUM_SEQS:
                is_busy.set()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(follow(request)) for request in crowd]
        await is_busy.wait()
        before = num_ended
        async for batch in stack.replica.generate((victim,)):
            if any(delta.token_ids for delta in batch.deltas):
                before = num_ended - before
                break
        assert sum(not task.done() for task in tasks) > len(crowd) // 2
        await stack.replica.cancel(tuple(request.request_id for request in crowd))
    return before


@pytest.mark.parametrize(("num_reserved", "most"), [(0, NUM_SEQS), (1, NUM_SEQS - 1)])
async def test_a_crowd_delays_another_by_at_most_one_batch(
    tmp_path: Path, num_reserved: int, most: int
) -> None:
    model = make_tiny("llama", tmp_path / "model")
    config = make_config(model, max_num_seqs=NUM_SEQS, reserved_seqs=num_reserved)
    async with running(config, tmp_path / "cache") as stack:
        # The crowd has had its first burst by the time that it counts.
        stack.replica._gate = FairGate(replace(config.fair_limits, burst_cost=100.0))
        key = await stack.publish("own", make_adapter(stack.layout, "rank-1 tied", 0, 0.3))
        sampling = Sampling(16, temperature=0.0, ignore_eos=True)
        crowd = [
            GenerateRequest(f"c{i}", BASE, (1, 2, 3), sampling, TenantId("crowd"))
            for i in range(200)
        ]
        victim = replace(crowd[0], request_id="v", adapter=key, tenant=TenantId("victim"))
        assert await ends_before(stack, victim, crowd) <= most
        assert "0 waiting, 0 sequences" in repr(stack.replica._gate)
