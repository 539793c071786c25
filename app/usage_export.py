"""Usage records from Redis to a text for whoever writes the bills: JSON lines, totals last."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass

from adapter_cache.config import CacheConfig
from adapter_cache.redis_connect import RedisClients
from app.maintenance import reachable
from app.redis_usage_log import RedisUsageLog
from app.usage_log import UsageRecord


@dataclass(slots=True)
class TenantTotal:
    """Sums of one tenant's exported records."""

    tenant: str
    num_requests: int = 0
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_generated_tokens: int = 0

    def add(self, record: UsageRecord) -> None:
        """Count one record."""
        self.num_requests += 1
        self.num_prompt_tokens += record.num_prompt_tokens
        self.num_cached_tokens += record.num_cached_tokens
        self.num_generated_tokens += record.num_generated_tokens


def export_usage(
    cache: CacheConfig, write: Callable[[str], object], *, since_s: float, tenant: str | None
) -> None:
    """A line a record since `since_s` in Unix time, of one tenant or of all, then one a tenant.

    Raises StoreUnavailable, NotReady.
    """
    with reachable(cache) as found:
        asyncio.run(_export(found, write, since_s, tenant))


async def _export(
    cache: CacheConfig, write: Callable[[str], object], since_s: float, tenant: str | None
) -> None:
    clients = RedisClients.connect(cache.redis_url, cache.redis)
    totals: dict[str, TenantTotal] = {}
    try:
        log = RedisUsageLog(clients, cache.key_prefix, max_records=1)
        async for record in log.read(since_s):
            if tenant is None or record.tenant == tenant:
                totals.setdefault(record.tenant, TenantTotal(record.tenant)).add(record)
                write(_line("record", asdict(record)))
    finally:
        await clients.close()
    for name in sorted(totals):
        write(_line("total", asdict(totals[name])))


def _line(kind: str, fields: dict[str, object]) -> str:
    return json.dumps({"kind": kind, **fields})
