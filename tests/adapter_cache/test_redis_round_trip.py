"""What is asked in one turn of the loop travels together, and fails together."""

import asyncio

import pytest

from adapter_cache.redis_connect import RedisClients
from adapter_cache.redis_round_trip import RedisRoundTrip
from contracts.errors import StoreUnavailable

pytestmark = pytest.mark.redis


async def test_askers_of_one_turn_share_a_trip_and_get_their_own(
    clients: RedisClients, prefix: str
) -> None:
    trip = RedisRoundTrip(clients)
    keys = [f"{prefix}:{{{number}}}" for number in range(9)]
    await trip.ask([("SET", key, number) for number, key in enumerate(keys)])
    answers = await asyncio.gather(
        *(trip.ask([("GET", key), ("GET", f"{key}:none")]) for key in keys)
    )
    assert answers == [[str(number).encode(), None] for number in range(9)]
    assert trip.num_trips == 2
    assert await trip.ask([]) == []
    assert trip.num_trips == 2


async def test_an_asker_who_leaves_disturbs_nobody(clients: RedisClients, prefix: str) -> None:
    trip = RedisRoundTrip(clients)
    leaves = asyncio.ensure_future(trip.ask([("GET", f"{prefix}:a")]))
    stays = asyncio.ensure_future(trip.ask([("SET", f"{prefix}:b", "1"), ("GET", f"{prefix}:b")]))
    await asyncio.sleep(0)
    leaves.cancel()
    assert (await stays)[1] == b"1"


async def test_scripts_run_by_name_wherever_their_keys_lie(
    clients: RedisClients, prefix: str
) -> None:
    trip = RedisRoundTrip(clients)
    name = trip.script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    keys = [f"{prefix}:{{{number}}}" for number in range(6)]
    commands = [("EVALSHA", name, 1, key, 5) for key in keys]
    assert await trip.ask(commands) == [5] * 6
    assert await trip.ask(commands) == [10] * 6
    async with clients.writing() as redis:
        await redis.script_flush()
    # A server without the script runs what came before it once more: repeats must do no harm.
    assert await trip.ask([("GET", keys[0]), *commands[1:2]]) == [b"10", 15]


async def test_a_server_that_is_away_is_told_to_every_asker() -> None:
    clients = RedisClients.connect("redis://127.0.0.1:1/0")
    trip = RedisRoundTrip(clients)
    answers = await asyncio.gather(
        *(trip.ask([("GET", "a")]) for _ in range(3)), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [StoreUnavailable] * 3
    await clients.close()


async def test_an_end_of_the_process_leaves_nobody_waiting(
    clients: RedisClients, prefix: str
) -> None:
    trip = RedisRoundTrip(clients)
    asking = asyncio.ensure_future(trip.ask([("GET", prefix)]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for task in trip._tasks:
        task.cancel()
    with pytest.raises(StoreUnavailable, match="closed"):
        await asking
