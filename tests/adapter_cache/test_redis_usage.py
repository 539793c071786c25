"""Counts of use: one contract for the fake and the servers, and hours for the servers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_cache.redis_connect import RedisClients
from adapter_cache.redis_usage import RedisUsage, from_member, to_member
from adapter_cache.usage import AdapterUsage, MemoryUsage
from contracts.adapters import ADAPTER_NAME, AdapterRef, TenantId

NOON_S = 1_700_000_000.0 // 3600 * 3600


def ref(name: str, tenant: str = "t") -> AdapterRef:
    return AdapterRef(TenantId(tenant), name)


class Clock:
    def __init__(self) -> None:
        self.now_s = NOON_S

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def redis_usage(clients: RedisClients, prefix: str, clock: Clock) -> RedisUsage:
    return RedisUsage(clients, prefix, clock, max_adapters=50)


async def _keeps_the_contract(usage: AdapterUsage) -> None:
    assert await usage.most_used(5) == []
    await usage.add({})
    await usage.add({ref("a"): 2, ref("b"): 5, ref("a", "x:y"): 3})
    await usage.add({ref("a"): 4, ref("c"): 1})
    assert await usage.most_used(3) == [ref("a"), ref("b"), ref("a", "x:y")]
    assert await usage.most_used(9) == [ref("a"), ref("b"), ref("a", "x:y"), ref("c")]
    assert await usage.most_used(0) == []


async def test_the_fake_gives_the_most_used_first() -> None:
    await _keeps_the_contract(MemoryUsage())


@pytest.mark.redis
async def test_the_servers_give_the_most_used_first(redis_usage: RedisUsage) -> None:
    await _keeps_the_contract(redis_usage)


@pytest.mark.redis
async def test_this_hour_and_the_one_before_count(redis_usage: RedisUsage, clock: Clock) -> None:
    await redis_usage.add({ref("old"): 9, ref("both"): 6})
    clock.now_s += 3600
    await redis_usage.add({ref("both"): 4, ref("new"): 1})
    assert await redis_usage.most_used(9) == [ref("both"), ref("old"), ref("new")]
    clock.now_s += 3600
    assert await redis_usage.most_used(9) == [ref("both"), ref("new")]
    clock.now_s += 3600
    assert await redis_usage.most_used(9) == []


@pytest.mark.redis
async def test_an_hour_keeps_its_most_used_and_expires(
    redis_usage: RedisUsage, clients: RedisClients, prefix: str
) -> None:
    await redis_usage.add({ref(f"a{number}"): number for number in range(200)})
    key = f"{prefix}:usage:{int(NOON_S // 3600)}"
    assert await clients.reads.zcard(key) == 50
    assert 7100 < await clients.reads.ttl(key) <= 7200
    assert await redis_usage.most_used(2) == [ref("a199"), ref("a198")]


@pytest.mark.redis
async def test_what_is_no_name_is_not_counted(redis_usage: RedisUsage) -> None:
    await redis_usage.add({ref("a:b"): 5, ref(""): 5, ref("a"): 0})
    assert await redis_usage.most_used(9) == []
    assert "RedisUsage" in repr(redis_usage)


@given(
    st.from_regex(ADAPTER_NAME, fullmatch=True),
    st.text(st.characters(exclude_categories=["Cs"])),
)
def test_a_member_gives_back_its_ref(name: str, tenant: str) -> None:
    assert from_member(to_member(ref(name, tenant)).encode()) == ref(name, tenant)
