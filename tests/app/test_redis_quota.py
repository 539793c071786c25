"""The script against its model, on real servers; and limits across doors that share a server."""

import asyncio
import itertools
import multiprocessing
import random
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis

from adapter_cache.redis_connect import RedisClients
from adapter_cache.redis_registry import RedisRegistry
from adapter_cache.redis_round_trip import RedisRoundTrip
from app.quota import Bill, Charge, KeyUsage, Limit, Outcome, Release
from app.redis_quota import SETTLE, RedisLedger, arguments_of, outcomes_of
from contracts.access import Quota
from contracts.adapters import DEFAULT_TENANT, AdapterRef
from tests.adapter_cache.manifests import advance, make_manifest
from tests.adapter_cache.servers import clients as clients
from tests.adapter_cache.servers import cluster_url as cluster_url
from tests.adapter_cache.servers import other_url as other_url
from tests.adapter_cache.servers import prefix as prefix
from tests.adapter_cache.servers import redis_url as redis_url
from tests.adapter_cache.servers import valkey_url as valkey_url

pytestmark = pytest.mark.redis
LEASE_US = 5_000_000
QUOTAS = st.builds(
    Quota,
    st.none() | st.integers(1, 9),
    st.none() | st.integers(1, 3000),
    st.none() | st.integers(1, 6),
)
# A request has as many streams at its end as at its beginning.
NUM_STREAMS = {"a": 1, "b": 2, "c": 3, "d": 1, "e": 2, "f": 3}
IDS = st.sampled_from(sorted(NUM_STREAMS))
CHARGES = st.builds(
    lambda id_, tokens: Charge(id_, NUM_STREAMS[id_], tokens), IDS, st.integers(0, 900)
)
RELEASES = st.builds(
    lambda id_, tokens, used: Release(id_, NUM_STREAMS[id_], tokens, used),
    IDS,
    st.integers(0, 900),
    st.integers(0, 1200),
)
CALLS = st.tuples(
    st.integers(0, 40_000_000),
    st.lists(RELEASES, max_size=3, unique_by=lambda end: end.request_id),
    st.lists(CHARGES, max_size=4),
)
_numbers = itertools.count()


@settings(deadline=None, max_examples=100)
@given(QUOTAS, st.lists(CALLS, min_size=1, max_size=10))
def test_the_script_and_its_model_agree(
    valkey_url: str, quota: Quota, calls: Sequence[tuple[int, list[Release], list[Charge]]]
) -> None:
    key, usage, now_us = f"model-{next(_numbers)}", KeyUsage(), 1_700_000_000_000_000
    with Redis.from_url(valkey_url) as redis:
        for step_us, releases, charges in calls:
            now_us += step_us
            bill = Bill(key, quota, tuple(releases), tuple(charges))
            clock = f"{{'{now_us // 1_000_000}', '{now_us % 1_000_000}'}}"
            reply = redis.eval(
                SETTLE.replace("redis.call('TIME')", clock),
                2,
                f"{key}:rate",
                f"{key}:streams",
                *map(str, arguments_of(bill, LEASE_US)),
            )
            assert outcomes_of(reply) == usage.settle(bill, now_us, LEASE_US)
            leases = {name.decode(): int(end) for name, end in redis.zscan_iter(f"{key}:streams")}
            assert leases == usage.leases_us


def charges(number: int, start: int = 0, tokens: int = 0) -> tuple[Charge, ...]:
    return tuple(Charge(f"r{start + i}", 1, tokens) for i in range(number))


def refusals(outcomes: Sequence[Outcome]) -> list[Limit]:
    return [outcome.refused for outcome in outcomes]


async def test_each_limit_refuses_alone(clients: RedisClients, prefix: str) -> None:
    ledger = RedisLedger(RedisRoundTrip(clients), 60, prefix)
    bills = [
        Bill("requests", Quota(requests_per_min=2), (), charges(3)),
        Bill("tokens", Quota(tokens_per_min=100), (), charges(3, tokens=40)),
        Bill("streams", Quota(max_streams=1), (), charges(2)),
    ]
    found = await ledger.settle(bills)
    assert [refusals(outcomes) for outcomes in found] == [
        [Limit.NONE, Limit.NONE, Limit.REQUESTS],
        [Limit.NONE, Limit.NONE, Limit.TOKENS],
        [Limit.NONE, Limit.STREAMS],
    ]
    assert 0 < found[0][2].wait_us <= 30_000_000
    # What was not used comes back, and a stream is free again; once, however often it is said.
    ends = (Release("r0", 1, 40, 0),) * 2
    again = [
        Bill("tokens", Quota(tokens_per_min=100), ends, charges(2, 10, tokens=40)),
        Bill("streams", Quota(max_streams=1), ends, charges(2, 10)),
    ]
    assert [refusals(outcomes) for outcomes in await ledger.settle(again)] == [
        [Limit.NONE, Limit.TOKENS],
        [Limit.NONE, Limit.STREAMS],
    ]


async def test_a_repeated_charge_counts_once(clients: RedisClients, prefix: str) -> None:
    ledger = RedisLedger(RedisRoundTrip(clients), 60, prefix)
    bill = Bill("k", Quota(requests_per_min=3), (), charges(2))
    for _ in range(3):
        assert refusals((await ledger.settle([bill]))[0]) == [Limit.NONE, Limit.NONE]
    more = Bill("k", Quota(requests_per_min=3), (), charges(2, 10))
    assert refusals((await ledger.settle([more]))[0]) == [Limit.NONE, Limit.REQUESTS]


async def test_a_dead_door_gives_its_streams_back_in_time(
    clients: RedisClients, prefix: str
) -> None:
    ledger = RedisLedger(RedisRoundTrip(clients), 0.2, prefix)
    quota = Quota(max_streams=1)
    assert refusals((await ledger.settle([Bill("k", quota, (), charges(2))]))[0])[1]
    await asyncio.sleep(0.3)
    assert refusals((await ledger.settle([Bill("k", quota, (), charges(1, 5))]))[0]) == [Limit.NONE]


async def test_every_key_expires(clients: RedisClients, prefix: str) -> None:
    ledger = RedisLedger(RedisRoundTrip(clients), 60, prefix)
    await ledger.settle([Bill("k", Quota(10, 1000, 5), (), charges(2, tokens=9))])
    async with clients.reading() as redis:
        keys = sorted([key.decode() async for key in redis.scan_iter(f"{prefix}:*")])
        assert keys == [f"{prefix}:quota:{{k}}:{kind}" for kind in ("rate", "streams")]
        times = [await redis.pttl(key) for key in keys]
    assert 0 < times[0] <= 14_000
    assert 0 < times[1] <= 61_000


async def test_evicted_state_forgets_use_and_nothing_else(
    clients: RedisClients, prefix: str
) -> None:
    ledger = RedisLedger(RedisRoundTrip(clients), 60, prefix)
    quota = Quota(requests_per_min=1, tokens_per_min=50, max_streams=1)
    await ledger.settle([Bill("k", quota, (), charges(1, tokens=50))])
    async with clients.writing() as redis:
        await redis.delete(f"{prefix}:quota:{{k}}:streams", f"{prefix}:quota:{{k}}:rate")
    late = (Release("r0", 1, 50, 0),)
    found = await ledger.settle([Bill("k", quota, late, charges(2, 10, tokens=50))])
    assert refusals(found[0]) == [Limit.NONE, Limit.REQUESTS]


async def test_adapters_and_quotas_are_one_round_trip(valkey_url: str, prefix: str) -> None:
    clients = RedisClients.connect(valkey_url)
    trip = RedisRoundTrip(clients)
    registry, ledger = RedisRegistry(clients, prefix, trip), RedisLedger(trip, 60, prefix)
    await advance(registry, make_manifest(1))
    refs = [AdapterRef(DEFAULT_TENANT, "ada")]
    bills = [Bill(key, Quota(10), (), charges(2)) for key in ("k1", "k2", "k3")]
    # The first call also brings the script to the server.
    await ledger.settle(bills)
    before, trips = await clients.reads.info("stats"), trip.num_trips
    found, outcomes = await asyncio.gather(registry.resolve(refs), ledger.settle(bills))
    after = await clients.reads.info("stats")
    await clients.close()
    assert found == [make_manifest(1).key]
    assert [refusals(each) for each in outcomes] == [[Limit.NONE] * 2] * 3
    assert trip.num_trips - trips == 1
    # The question itself is the other read.
    assert after["total_reads_processed"] - before["total_reads_processed"] == 2


async def test_a_server_that_forgot_the_script_is_told_again(
    clients: RedisClients, prefix: str
) -> None:
    ledger = RedisLedger(RedisRoundTrip(clients), 60, prefix)
    for number in range(2):
        bill = Bill("k", Quota(10), (), charges(1, number))
        assert refusals((await ledger.settle([bill]))[0]) == [Limit.NONE]
        async with clients.writing() as redis:
            await redis.script_flush()


def _door(url: str, prefix: str, number: int, num_doors: int) -> tuple[int, int, float, float]:
    """One ingress: asks in windows of its own for a while.

    Gives how many were admitted, how many at a time, and Unix times of begin and end.
    """

    async def run() -> tuple[int, int, float, float]:
        clients = RedisClients.connect(url)
        ledger = RedisLedger(RedisRoundTrip(clients), 60, prefix)
        quota, rng = Quota(requests_per_min=120, max_streams=7), random.Random(number)
        admitted, running, ids, most = 0, list[str](), itertools.count(), 0
        async with clients.writing() as redis:
            await redis.incr(f"{prefix}:here")
        while int(await clients.reads.get(f"{prefix}:here") or 0) < num_doors:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        began_s = time.time()
        while time.time() < began_s + 2.5:
            ends = [running.pop() for _ in range(rng.randint(0, len(running)))]
            asked = [f"{number}-{next(ids)}" for _ in range(rng.randint(1, 4))]
            bill = Bill(
                "shared",
                quota,
                tuple(Release(id_, 1, 0, 0) for id_ in ends),
                tuple(Charge(id_, 1, 0) for id_ in asked),
            )
            [outcomes] = await ledger.settle([bill])
            granted = [id_ for id_, o in zip(asked, outcomes, strict=True) if not o.refused]
            admitted += len(granted)
            running += granted
            most = max(most, len(running))
            async with clients.reading() as redis:
                assert await redis.zcard(f"{prefix}:quota:{{shared}}:streams") <= 7
        await clients.close()
        return admitted, most, began_s, time.time()

    return asyncio.run(run())


def test_limits_hold_across_processes(valkey_url: str, prefix: str) -> None:
    num_doors = 3
    with multiprocessing.get_context("spawn").Pool(num_doors) as pool:
        jobs = [(valkey_url, prefix, number, num_doors) for number in range(num_doors)]
        results = pool.starmap(_door, jobs)
    counts, mosts, begins, ends = zip(*results, strict=True)
    # A full bucket, and two a second from then on.
    assert 120 <= sum(counts) <= 120 + 2 * (max(ends) - min(begins)) + 1
    assert max(mosts) <= 7
    assert min(counts) > 0
