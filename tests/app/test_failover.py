"""One stream for the reader, whatever happens to the replicas: with replicas of this process."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.journey import FailoverLimits
from contracts.adapters import BASE
from contracts.errors import EngineFailed, NotReady, ServingError
from contracts.generation import GenerateRequest, Sampling, StepMessage
from contracts.replica import ReplicaReport
from tests.app.cluster import Cluster
from tests.replicas.engines import turns


def make_requests(number: int, max_tokens: int = 40, n: int = 1) -> tuple[GenerateRequest, ...]:
    return tuple(
        GenerateRequest(f"q{i}", BASE, (i, 7, 8), Sampling(max_tokens, n=n)) for i in range(number)
    )


async def read(
    cluster: Cluster, requests: tuple[GenerateRequest, ...]
) -> dict[tuple[int, int], str | ServingError]:
    """The text of each choice of each request with its finish reason, or its error."""
    texts: dict[tuple[int, int], str | ServingError] = {}
    async for batch in cluster.failover.generate(requests):
        for delta in batch.deltas:
            assert not delta.entered
            place = (delta.index, delta.choice)
            if delta.error is not None:
                texts[place] = delta.error
                continue
            before = texts.get(place, "")
            assert isinstance(before, str)
            texts[place] = before + delta.text + (delta.finish_reason or "")
    return texts


async def unbroken(
    requests: tuple[GenerateRequest, ...],
) -> dict[tuple[int, int], str | ServingError]:
    return await read(Cluster("alone"), requests)


async def test_requests_of_a_lost_replica_go_on_behind_their_tokens() -> None:
    requests = make_requests(6, n=2)
    cluster = Cluster("a", "b")
    task = asyncio.create_task(read(cluster, requests))
    await asyncio.sleep(0.02)
    assert {leg.replica_id for leg in cluster.failover._legs()} == {"a", "b"}
    cluster.kill("a")
    assert await task == await unbroken(requests)
    assert cluster.counts.num_lost >= 1
    assert cluster.chooser.fleet.loads(0.0)[cluster.chooser.fleet.slot_of("b") or 0] == 0
    assert repr(cluster.failover) == "<Failover 0 groups>"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=6), st.integers(1, 5), st.integers(1, 2))
def test_any_number_of_losses_changes_nothing(kills: list[int], number: int, n: int) -> None:
    async def run() -> None:
        requests = make_requests(number, n=n)
        cluster = Cluster("r0", "s0")
        task = asyncio.create_task(read(cluster, requests))
        for count, wait_ms in enumerate(kills):
            await asyncio.sleep(wait_ms / 1000)
            victim = sorted(cluster.stacks)[count % 2]
            cluster.add(f"{victim[0]}{count + 1}")
            cluster.kill(victim, is_known=bool(count % 3))
        texts = await task
        # Two losses within a first token's time are what a harmful request looks like.
        blamed = {p[0] for p, text in texts.items() if isinstance(text, ServingError)}
        assert len(kills) > 1 or not blamed
        expected = (await unbroken(requests)).items()
        kept = {place: text for place, text in texts.items() if place[0] not in blamed}
        assert kept == {place: text for place, text in expected if place[0] not in blamed}

    asyncio.run(run())


async def test_a_resumed_request_survives_its_replica() -> None:
    whole = make_requests(4)
    requests = tuple(replace(r, resumed_token_ids=r.prompt_token_ids * 2) for r in whole)
    cluster = Cluster("a", "b")
    task = asyncio.create_task(read(cluster, requests))
    await asyncio.sleep(0.02)
    cluster.kill("a")
    texts = await task
    assert cluster.counts.num_lost >= 1
    for place, text in (await unbroken(whole)).items():
        assert isinstance(text, str)
        assert texts[place] == " ".join(text.split(" ")[6:])


async def test_a_stream_waits_for_the_next_replica() -> None:
    requests = make_requests(3)
    cluster = Cluster("a")
    task = asyncio.create_task(read(cluster, requests))
    await asyncio.sleep(0.02)
    cluster.kill("a", is_known=True)
    await turns(20)
    assert not task.done()
    cluster.add("b")
    assert await task == await unbroken(requests)


async def test_a_new_request_does_not_wait_for_ever() -> None:
    cluster = Cluster(limits=FailoverLimits(wait_s=0.01))
    texts = await read(cluster, make_requests(2))
    assert [type(text) for text in texts.values()] == [NotReady, NotReady]
    await turns()
    assert repr(cluster.stream) == "<SharedStream 0 groups in 0 calls>"


async def test_a_replica_that_hangs_while_another_moves_loses_its_requests() -> None:
    requests = make_requests(8, max_tokens=60)
    cluster = Cluster("a", "b", limits=FailoverLimits(hang_after_s=10))
    task = asyncio.create_task(read(cluster, requests))
    await asyncio.sleep(0.02)
    cluster.frozen.add("a")
    cluster.now_s = 9.0
    cluster.failover.heard("b")
    assert cluster.failover.give_up_silent() == []
    cluster.now_s = 11.0
    cluster.failover.heard("b")
    assert cluster.failover.give_up_silent() == ["a"]
    assert {name for name, _ in cluster.cancelled} == {"a"}
    cluster.kill("a", is_known=True)
    assert await task == await unbroken(requests)


@pytest.mark.parametrize(("reporting", "hung"), [("b", ["a"]), ("ab", []), ("a", []), ("", [])])
async def test_a_replica_that_does_not_even_report_while_an_idle_one_does_hangs(
    reporting: str, hung: list[str]
) -> None:
    cluster = Cluster("a", "b", limits=FailoverLimits(hang_after_s=10))
    requests = make_requests(1, max_tokens=60)
    task = asyncio.create_task(read(cluster, requests))
    await asyncio.sleep(0.02)
    if {leg.replica_id for leg in cluster.failover._legs()} == {"b"}:
        reporting = reporting.translate(str.maketrans("ab", "ba"))
        hung = ["b"] if hung else []
    cluster.frozen.update(leg.replica_id for leg in cluster.failover._legs())
    for now_s in (1.0, 12.0):
        cluster.now_s = now_s
        reports = {name: ReplicaReport(1, 0, 0) for name in cluster.stacks}
        reports |= {name: ReplicaReport(int(now_s), 0, 0) for name in reporting}
        cluster.members.tell(reports)
        assert cluster.failover.give_up_silent() == (hung if now_s > 10 else [])
    if hung:
        assert await task == await unbroken(requests)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_where_nobody_moves_nobody_hangs() -> None:
    cluster = Cluster("a", "b", limits=FailoverLimits(hang_after_s=10))
    task = asyncio.create_task(read(cluster, make_requests(4, max_tokens=200)))
    await asyncio.sleep(0.02)
    cluster.now_s = 100.0
    assert cluster.failover.give_up_silent() == []
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancelled_request_is_stopped_where_it_runs() -> None:
    cluster = Cluster("a", "b")
    task = asyncio.create_task(read(cluster, make_requests(4, max_tokens=200)))
    await asyncio.sleep(0.02)
    cluster.failover.cancel(["q0", "q3", "elsewhere"])
    assert {i for _, ids in cluster.cancelled for i in ids} == {"q0", "q3"}
    cluster.kill("a")
    cluster.kill("b", is_known=True)
    cluster.add("c")
    texts = await task
    assert isinstance(texts[0, 0], EngineFailed)
    assert isinstance(texts[1, 0], str)
    assert texts[1, 0].endswith("length")


async def test_attempts_that_fail_at_once_are_spread_over_time() -> None:
    cluster = Cluster("a", limits=FailoverLimits(max_attempts=3))
    cluster.stream._call = lambda *_: lost_call()
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    texts = await read(cluster, make_requests(2))
    assert [type(text) for text in texts.values()] == [EngineFailed, EngineFailed]
    assert cluster.counts.num_lost == 6
    assert loop.time() - began_s >= 0.1


async def test_a_request_that_is_cancelled_in_a_pause_goes_nowhere() -> None:
    cluster = Cluster("a")
    cluster.stream._call = lambda *_: lost_call()
    task = asyncio.create_task(read(cluster, make_requests(1)))
    await turns(50)
    assert cluster.counts.num_lost == 2
    cluster.failover.cancel(["q0"])
    assert await asyncio.wait_for(task, 5) == {}


async def lost_call() -> AsyncIterator[StepMessage]:
    raise EngineFailed("The engine was lost.")
    yield StepMessage()


async def test_a_replica_that_speaks_again_is_trusted() -> None:
    cluster = Cluster("a", "b", limits=FailoverLimits(hang_after_s=10))
    task = asyncio.create_task(read(cluster, make_requests(8, max_tokens=60)))
    await asyncio.sleep(0.02)
    cluster.frozen.add("a")
    cluster.now_s = 11.0
    cluster.failover.heard("b")
    assert cluster.failover.give_up_silent() == ["a"]
    slot = cluster.chooser.fleet.slot_of("a")
    assert slot is not None
    assert cluster.chooser.fleet.loads(100.0)[slot] == float("inf")
    cluster.frozen.clear()
    await task
    cluster.failover.heard("a")
    assert cluster.chooser.fleet.loads(100.0)[slot] < float("inf")


@pytest.mark.parametrize("number", [1, 5])
async def test_a_harmful_request_kills_two_and_the_others_go_on(number: int) -> None:
    requests = make_requests(number, max_tokens=5)
    cluster = Cluster("a", step_s=0.04)
    cluster.poison = "q0"
    texts = await asyncio.wait_for(read(cluster, requests), 30)
    assert cluster.num_poisoned == 2
    assert isinstance(texts.pop((0, 0)), EngineFailed)
    expected = await unbroken(requests)
    assert texts == {place: text for place, text in expected.items() if place[0]}
    assert repr(cluster.failover._ways.quarantine) == "<Quarantine 0 waiting>"


async def test_a_crowd_that_loses_two_replicas_before_a_token_is_not_blamed() -> None:
    requests = make_requests(12, max_tokens=4)
    cluster = Cluster("a", step_s=0.05)
    task = asyncio.create_task(read(cluster, requests))
    for old, new in (("a", "b"), ("b", "c")):
        await asyncio.sleep(0.02)
        cluster.add(new)
        cluster.kill(old)
    texts = await asyncio.wait_for(task, 60)
    # One of them was alone when the second replica went: that one looks harmful.
    errors = [text for text in texts.values() if isinstance(text, ServingError)]
    assert len(errors) <= 1
    assert len(texts) == 12
