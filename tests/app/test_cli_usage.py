"""`flora usage export` on a real Valkey."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from adapter_cache.redis_connect import RedisClients
from adapter_cache.valkey_server import ValkeyServer
from app import cli
from app.cli_usage import unix_time_s
from app.redis_usage_log import RedisUsageLog
from contracts.errors import InvalidRequest
from tests.app.test_redis_usage_log import make_record


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ValkeyServer.start(tmp_path_factory.mktemp("valkey")) as server:
        asyncio.run(fill(server.url))
        yield server.url


async def fill(url: str) -> None:
    clients = RedisClients.connect(url)
    log = RedisUsageLog(clients, "flora", max_records=100)
    again = make_record("a1", tenant="acme")
    await log.append([again, make_record("b1", tenant="bolt"), make_record("a2", tenant="acme")])
    await log.append([again])
    await clients.close()


def export(url: str, *options: str) -> list[dict[str, object]]:
    words = ["usage", "export", "--set", f"cache.redis_url={url}", *options]
    result = CliRunner().invoke(cli.app, words)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.redis
def test_records_come_once_and_totals_last(url: str) -> None:
    *records, acme, bolt = export(url)
    assert [(r["kind"], r["request_id"]) for r in records] == [
        ("record", "a1"),
        ("record", "b1"),
        ("record", "a2"),
    ]
    assert acme == {
        "kind": "total",
        "tenant": "acme",
        "num_requests": 2,
        "num_prompt_tokens": 10,
        "num_cached_tokens": 2,
        "num_generated_tokens": 4,
    }
    assert (bolt["tenant"], bolt["num_requests"]) == ("bolt", 1)


@pytest.mark.redis
def test_one_tenant_and_a_time_are_chosen(url: str) -> None:
    assert [line.get("request_id") for line in export(url, "--tenant", "bolt")] == ["b1", None]
    assert export(url, "--since", "2100-01-01") == []


def test_times_are_read_in_three_forms() -> None:
    assert unix_time_s("12.5") == 12.5
    assert unix_time_s("1970-01-02") == 86400
    assert unix_time_s("1970-01-01T01:00:00Z") == 3600
    assert unix_time_s("1970-01-01T01:00:00+01:00") == 0
    with pytest.raises(InvalidRequest, match="yesterday"):
        unix_time_s("yesterday")


@pytest.mark.redis
def test_without_a_server_the_embedded_one_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "valkey"
    with ValkeyServer.start(folder) as server:
        asyncio.run(fill(server.url))
    lines = export("", "--set", f"cache.valkey_dir={folder}")
    assert len(lines) == 5
