"""Usage records in real servers, and through a restart of one."""

import asyncio
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from adapter_cache.config import RedisLimits
from adapter_cache.redis_connect import RedisClients
from adapter_cache.valkey_server import ValkeyServer
from app.redis_usage_log import RedisUsageLog, from_fields, to_fields
from app.telemetry_config import UsageSettings
from app.usage_log import UsageLog, UsageRecord
from tests.adapter_cache.servers import clients as clients
from tests.adapter_cache.servers import cluster_url as cluster_url
from tests.adapter_cache.servers import other_url as other_url
from tests.adapter_cache.servers import prefix as prefix
from tests.adapter_cache.servers import redis_url as redis_url
from tests.adapter_cache.servers import valkey_url as valkey_url
from tests.app.test_usage_log import end, until

WORD = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
COUNT = st.integers(0, 2**40)
SECONDS = st.floats(0, 4e9, allow_nan=False)
RECORDS = st.builds(
    UsageRecord, SECONDS, WORD, WORD, WORD, WORD, WORD, WORD, COUNT, COUNT, COUNT, SECONDS
)


def make_record(request_id: str, time_s: float | None = None, tenant: str = "t") -> UsageRecord:
    time_s = time.time() if time_s is None else time_s
    return UsageRecord(time_s, tenant, "k", request_id, "m:a", "d", "stop", 5, 1, 2, 0.25)


async def ids(log: RedisUsageLog, since_s: float = 0.0) -> list[str]:
    return [record.request_id async for record in log.read(since_s)]


@given(RECORDS)
def test_what_goes_in_comes_out(record: UsageRecord) -> None:
    entry = {name.encode(): value.encode() for name, value in to_fields(record).items()}
    assert from_fields(entry) == record


@given(st.dictionaries(st.binary(max_size=8), st.binary(max_size=8), max_size=4))
def test_what_is_no_record_is_passed_over(entry: dict[bytes, bytes]) -> None:
    assert from_fields(entry) is None


@pytest.mark.redis
async def test_records_come_back_each_once_in_order(clients: RedisClients, prefix: str) -> None:
    log = RedisUsageLog(clients, prefix, max_records=10_000)
    records = [make_record(f"r{n}") for n in range(1500)]
    await log.append(records)
    await log.append(records[100:200])
    assert [record async for record in log.read()] == records


@pytest.mark.redis
async def test_pages_from_both_sides_meet(clients: RedisClients, prefix: str) -> None:
    log = RedisUsageLog(clients, prefix, max_records=10_000)
    assert await log.before("", 5) == []
    await log.append([make_record(f"r{n}") for n in range(7)])
    newest = await log.before("", 3)
    older = await log.before(newest[-1].entry_id, 10)
    assert [e.record.request_id for e in [*newest, *older] if e.record] == [
        f"r{n}" for n in range(6, -1, -1)
    ]
    assert list(reversed(newest)) == await log.after(older[0].entry_id, 10)
    assert (await log.after("", 100))[0] == older[-1]
    assert await log.after(newest[0].entry_id, 5) == []


@pytest.mark.redis
async def test_only_what_ended_since_is_read(clients: RedisClients, prefix: str) -> None:
    now_s = time.time()
    log = RedisUsageLog(clients, prefix, max_records=100)
    await log.append([make_record("old", now_s - 30), make_record("new", now_s)])
    assert await ids(log, now_s - 10) == ["new"]
    assert await ids(log, now_s - 31) == ["old", "new"]


@pytest.mark.redis
async def test_the_oldest_go_when_there_are_too_many(clients: RedisClients, prefix: str) -> None:
    log = RedisUsageLog(clients, prefix, max_records=300)
    for start in range(0, 2000, 500):
        await log.append([make_record(f"r{n}") for n in range(start, start + 500)])
    left = await ids(log)
    # Servers trim whole nodes of a stream, of a hundred entries by default.
    assert 300 <= len(left) <= 400
    assert left == [f"r{n}" for n in range(2000 - len(left), 2000)]


@pytest.mark.redis
async def test_nothing_is_lost_or_doubled_when_the_server_restarts(tmp_path: Path) -> None:
    server = ValkeyServer.start(tmp_path)
    limits = RedisLimits(connect_timeout_s=0.2, reply_timeout_s=0.2, max_retries=0)
    clients = RedisClients.connect(server.url, limits)
    sink = RedisUsageLog(clients, "p", max_records=1000)
    registry = CollectorRegistry()
    log = UsageLog(sink, UsageSettings(flush_s=0.01), registry, time.time)
    running = asyncio.create_task(log.run())

    def num_written() -> float:
        return registry.get_sample_value("flora_usage_records_total") or 0

    try:
        end(log, "a", "b")
        await until(lambda: num_written() == 2)
        server.stop()
        end(log, "c", "d")
        await asyncio.sleep(0.1)
        assert num_written() == 2
        server = ValkeyServer.start(tmp_path, server.port)
        end(log, "e")
        await until(lambda: num_written() == 5)
        assert await ids(sink) == list("abcde")
    finally:
        running.cancel()
        await clients.close()
        server.stop()
