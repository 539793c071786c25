"""Usage records in a Redis or Valkey stream.

    <prefix>:usage-log   stream   one entry a record: its fields, numbers as text

The stream has no expiry, so a server with a safe eviction policy never evicts it; it is trimmed to
about `max_records` instead, the oldest first. A consumer that must not miss any reads it with a
consumer group, or by `flora usage export`, before that.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, fields
from typing import Any

from adapter_cache.redis_connect import RedisClients
from app.recent_usage import LoggedRecord
from app.usage_log import UsageRecord

_PAGE = 1000
_CASTS = {"str": str, "int": int, "float": float}
_FIELDS = {
    field.name: _CASTS[field.type if isinstance(field.type, str) else field.type.__name__]
    for field in fields(UsageRecord)
}


class RedisUsageLog:
    """A UsageSink, and UsagePages, over the servers of `clients`, which somebody else closes."""

    def __init__(self, clients: RedisClients, key_prefix: str, *, max_records: int) -> None:
        self._clients = clients
        self._key = f"{key_prefix}:usage-log"
        self._max_records = max_records

    async def append(self, records: Sequence[UsageRecord]) -> None:
        """See UsageSink."""
        async with self._clients.writing() as redis:
            pipeline = redis.pipeline(transaction=False)
            for record in records:
                pipeline.xadd(
                    self._key, to_fields(record), maxlen=self._max_records, approximate=True
                )
            await pipeline.execute()

    async def read(self, since_s: float = 0.0) -> AsyncIterator[UsageRecord]:
        """What has been kept since `since_s`, oldest first, each request once.

        Raises StoreUnavailable.
        """
        # Entries are numbered by the server's clock when they arrive, which is after their time
        # unless the clocks differ: a minute is more than they may.
        start = str(max(0, int((since_s - 60) * 1000)))
        seen: set[str] = set()
        while True:
            async with self._clients.reading() as redis:
                found: Any = await redis.xrange(self._key, min=start, count=_PAGE)
            entries: list[Any] = found
            for _, entry in entries:
                record = from_fields(entry)
                if (
                    record is not None
                    and record.time_s >= since_s
                    and record.request_id not in seen
                ):
                    seen.add(record.request_id)
                    yield record
            if len(entries) < _PAGE:
                return
            start = f"({entries[-1][0].decode()}"

    async def before(self, entry_id: str, count: int) -> list[LoggedRecord]:
        """See UsagePages."""
        async with self._clients.reading() as redis:
            newest = f"({entry_id}" if entry_id else "+"
            found: Any = await redis.xrevrange(self._key, max=newest, count=count)
        return [_logged(*entry) for entry in found]

    async def after(self, entry_id: str, count: int) -> list[LoggedRecord]:
        """See UsagePages."""
        async with self._clients.reading() as redis:
            oldest = f"({entry_id}" if entry_id else "-"
            found: Any = await redis.xrange(self._key, min=oldest, count=count)
        return [_logged(*entry) for entry in found]

    def __repr__(self) -> str:
        return f"<RedisUsageLog {self._key!r}>"


def _logged(entry_id: bytes, entry: dict[bytes, bytes]) -> LoggedRecord:
    return LoggedRecord(entry_id.decode(), from_fields(entry))


def to_fields(record: UsageRecord) -> dict[Any, Any]:
    """A record as a stream's entry."""
    return {name: str(value) for name, value in asdict(record).items()}


def from_fields(entry: dict[bytes, bytes]) -> UsageRecord | None:
    """Inverse of `to_fields`; None for what somebody else has put there."""
    text = {
        name.decode(errors="replace"): value.decode(errors="replace")
        for name, value in entry.items()
    }
    try:
        return UsageRecord(**{name: cast(text[name]) for name, cast in _FIELDS.items()})
    except (KeyError, ValueError):
        return None
