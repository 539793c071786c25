"""What tenants have used lately: sums of usage records, read when somebody asks. Knows no Redis.

For looking at, not for bills: a record that a retry has written twice counts twice here.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.tenant_counts import TenantUse
from app.usage_log import UsageRecord
from contracts.adapters import TenantId

SLICE_S = 300
"""Sums are kept by so many seconds: a period begins at the beginning of one of them."""

SumKey = tuple[int, str, str]
"""The number of a slice, a tenant, a model."""


@dataclass(frozen=True, slots=True)
class LoggedRecord:
    """One entry of the log; `record` None is something that somebody else has put there."""

    entry_id: str
    record: UsageRecord | None


class UsagePages(Protocol):
    """A log of usage records that can be read from both sides. Both raise StoreUnavailable."""

    async def before(self, entry_id: str, count: int) -> Sequence[LoggedRecord]:
        """At most `count` that are older than the entry, newest first; "" is the log's end."""
        ...

    async def after(self, entry_id: str, count: int) -> Sequence[LoggedRecord]:
        """At most `count` that are newer than the entry, oldest first; "" is its beginning."""
        ...


class MemoryPages:
    """UsagePages over a list, oldest first: for tests and embedding. Entries are their places."""

    def __init__(self, records: Sequence[UsageRecord | None] = ()) -> None:
        self.records = list(records)

    async def before(self, entry_id: str, count: int) -> Sequence[LoggedRecord]:
        """See UsagePages."""
        end = int(entry_id) if entry_id else len(self.records)
        return [self._entry(place) for place in range(end - 1, max(-1, end - 1 - count), -1)]

    async def after(self, entry_id: str, count: int) -> Sequence[LoggedRecord]:
        """See UsagePages."""
        start = int(entry_id) + 1 if entry_id else 0
        return [self._entry(place) for place in range(start, len(self.records))[:count]]

    def _entry(self, place: int) -> LoggedRecord:
        return LoggedRecord(str(place), self.records[place])


@dataclass(frozen=True, slots=True)
class UsageBounds:
    """What one look may cost: records read, `page` at a time, and sums held. The log is looked at
    again after `fresh_s`.
    """

    page: int = 200
    max_records: int = 10_000
    max_sums: int = 20_000
    fresh_s: float = 2.0


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What a tenant has used, of one model where `model` is not empty."""

    tenant: str
    model: str
    use: TenantUse


@dataclass(frozen=True, slots=True)
class UsageReport:
    """`rows` have all that ended since `since_s`, those with the most tokens first.

    `is_complete`: that is all of the period, as far as the log goes back. Where it is not, the next
    report goes back farther, until what is held is at its bound.
    """

    since_s: float
    is_complete: bool
    rows: Sequence[UsageRow]


class RecentUsage:
    """Follows `pages` as it is asked: what is new each time, and a part of what is old.

    `clock` gives Unix time. One read at a time, whoever asks.
    """

    def __init__(
        self,
        pages: UsagePages,
        clock: Callable[[], float],
        bounds: UsageBounds | None = None,
    ) -> None:
        self._pages = pages
        self._clock = clock
        self._bounds = bounds or UsageBounds()
        self._reading = asyncio.Lock()
        self._read_at_s = -math.inf
        self._forget()

    def __repr__(self) -> str:
        return f"<RecentUsage {len(self._sums)} sums since {self._since_s:.0f}>"

    async def report(
        self, period_s: float, *, tenant: TenantId | None = None, by_model: bool = False
    ) -> UsageReport:
        """The last `period_s`, of one tenant or of all. Raises StoreUnavailable."""
        now_s = self._clock()
        wanted_s = math.floor((now_s - period_s) / SLICE_S) * SLICE_S
        async with self._reading:
            if now_s - self._read_at_s >= self._bounds.fresh_s:
                await self._read_new()
                await self._read_old(wanted_s)
                self._read_at_s = now_s
        is_complete = self._is_whole or self._since_s <= wanted_s
        since_s = wanted_s if is_complete else min(self._since_s, now_s)
        # Tens of milliseconds for many sums, in which no token would leave.
        sums = list(self._sums.items())
        rows = await asyncio.to_thread(_rows, sums, wanted_s, tenant, by_model)
        return UsageReport(since_s, is_complete, rows)

    def _forget(self) -> None:
        self._sums: dict[SumKey, TenantUse] = {}
        self._newest = self._oldest = ""
        self._since_s = math.inf
        self._is_whole = False

    async def _read_new(self) -> None:
        """All that has come since the last read; after a long pause it is begun anew instead."""
        if not self._newest:
            # There was nothing: what has come since is read from the end.
            self._is_whole = False
        num_read = 0
        while self._newest:
            found = await self._pages.after(self._newest, self._bounds.page)
            for entry in found:
                self._add(entry)
                self._newest = entry.entry_id
            num_read += len(found)
            if num_read > self._bounds.max_records or len(self._sums) > self._bounds.max_sums:
                self._forget()
            if len(found) < self._bounds.page:
                return

    async def _read_old(self, wanted_s: float) -> None:
        """Farther back, until `wanted_s` is reached or this has cost enough."""
        bounds = self._bounds
        num_read = 0
        # Half, so that what comes in does not make it begin anew at once.
        while num_read < bounds.max_records and len(self._sums) < bounds.max_sums / 2:
            if self._is_whole or self._since_s <= wanted_s:
                return
            found = await self._pages.before(self._oldest, bounds.page)
            for entry in found:
                self._add(entry)
                self._oldest = entry.entry_id
                self._newest = self._newest or entry.entry_id
                if entry.record is not None:
                    self._since_s = min(self._since_s, entry.record.time_s)
            num_read += len(found)
            self._is_whole = len(found) < bounds.page

    def _add(self, entry: LoggedRecord) -> None:
        record = entry.record
        if record is None:
            return
        key = (int(record.time_s // SLICE_S), record.tenant, record.model)
        self._sums.setdefault(key, TenantUse()).add(
            TenantUse(
                1, record.num_prompt_tokens, record.num_cached_tokens, record.num_generated_tokens
            )
        )


def _rows(
    sums: Sequence[tuple[SumKey, TenantUse]],
    since_s: float,
    tenant: TenantId | None,
    by_model: bool,
) -> list[UsageRow]:
    rows: dict[tuple[str, str], UsageRow] = {}
    for (number, owner, model), use in sums:
        if number * SLICE_S < since_s or tenant not in (None, owner):
            continue
        key = (owner, model if by_model else "")
        rows.setdefault(key, UsageRow(*key, TenantUse())).use.add(use)
    return sorted(rows.values(), key=_rank)


def _rank(row: UsageRow) -> tuple[int, str, str]:
    use = row.use
    return -(use.num_prompt_tokens + use.num_generated_tokens), row.tenant, row.model
