"""No prompt, no answer and no key is in a log line, a metric, a span or a usage record.

The whole way in one process, engine apart; tests/end_to_end/test_telemetry.py does it to a server.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from adapter_cache.fetcher import AdapterFetcher, FetchLimits
from adapter_cache.node_cache import NodeCache
from adapter_cache.store import MemoryStore
from app.door import Door
from app.logs import OUR_PACKAGES, Logs
from app.otel_tracing import make_tracer
from app.telemetry_config import LogSettings, TracingSettings
from contracts.access import Caller, Scope
from contracts.adapters import TenantId
from contracts.errors import EngineFailed, Unauthorized
from contracts.generation import GenerateRequest
from contracts.tracing import Tracer
from replicas.echo_engine import EchoEngine
from replicas.replica import Replica
from tests.app.canaries import ANSWER, CANARY, answered, odd, refused
from tests.app.collector import Collector, collecting
from tests.app.parts import CountingReplica, make_client, make_door

SECRET = "flora-0123456789-this-is-a-key"
HEADERS = {"authorization": f"Bearer {SECRET}"}
SENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class OneKey:
    async def caller(self, authorization: str | None) -> Caller:
        if authorization != f"Bearer {SECRET}":
            raise Unauthorized("The API key is not valid.")
        return Caller("key7", TenantId("acme"), frozenset(Scope))


class Measured(Replica):
    async def metrics(self) -> tuple[str, bytes]:
        return "r", b""


class Broken(CountingReplica):
    """Fails with what it was asked, as a library may."""

    async def generate(self, requests: tuple[GenerateRequest, ...]) -> AsyncIterator[Any]:
        raise EngineFailed("no") from ValueError(CANARY)
        yield


class Careless(MemoryStore):
    async def page(self, *_: object, **__: object) -> Any:
        raise RuntimeError(f"could not make sense of {CANARY}")


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


@pytest.fixture
def logs(tmp_path: Path) -> Iterator[Logs]:
    """Our own packages say all that they can."""
    loggers = [logging.getLogger(name) for name in (None, *OUR_PACKAGES)]
    before = [logger.level for logger in loggers]
    log = Logs(LogSettings(level="DEBUG", directory=str(tmp_path / "logs")), "door")
    yield log
    log.close()
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


async def make_real_door(folder: Path, tracer: Tracer) -> Door:
    store = MemoryStore()
    fetcher = AdapterFetcher(NodeCache(folder, 10**6), [store], limits=FetchLimits())
    replica = Measured(EchoEngine(), fetcher, tracer=tracer)
    await replica.start()
    return make_door(replica, store, auth=OneKey(), tracer=tracer)


async def test_what_callers_send_is_in_nothing_that_is_written(
    tmp_path: Path, collector: Collector, logs: Logs
) -> None:
    tracer = make_tracer(TracingSettings(collector.url), "flora")
    door = await make_real_door(tmp_path / "node", tracer)
    async with make_client(door) as client:
        statuses = []
        texts = []
        for request in (*answered(), *odd(), *refused()):
            headers = {**HEADERS, **request.pop("headers", {})}
            answer = await client.request(**request, headers=headers)
            statuses.append(answer.status_code)
            texts.append(answer.text)
        assert "x-request-id" in answer.headers
    bugs = [make_door(Broken(), auth=OneKey()), make_door(store=Careless(), auth=OneKey())]
    async with make_client(bugs[0]) as client:
        statuses.append((await client.request(**answered()[2], headers=HEADERS)).status_code)
    async with make_client(bugs[1]) as client:
        statuses.append((await client.get("/v1/adapters", headers=HEADERS)).status_code)
    await asyncio.to_thread(tracer.close)
    await asyncio.to_thread(logs.close)

    num_good = len(answered()) + len(odd())
    assert set(statuses[:num_good]) == {200}
    assert all(400 <= status < 500 for status in statuses[num_good:-2])
    assert statuses[-2:] == [500, 500]
    # The marks were really there: in the prompts, and in the answers.
    assert ANSWER in texts[2]
    (path,) = (tmp_path / "logs").iterdir()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert sum(line["logger"] == "app.access_log" for line in lines) == len(statuses)
    assert any("stack" in line for line in lines)
    assert collector.named("engine.decode")
    written = {
        "log": path.read_text(),
        "spans": collector.raw.decode(errors="replace"),
        "metrics": "".join(each.metrics.render().decode() for each in (door, *bugs)),
    }
    for secret in (CANARY, ANSWER, SECRET):
        assert [name for name, text in written.items() if secret in text] == [], secret
