"""Sums of usage records: those of a plain loop over all of them, read in small parts."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.recent_usage import (
    SLICE_S,
    LoggedRecord,
    MemoryPages,
    RecentUsage,
    UsageBounds,
    UsageReport,
)
from app.usage_log import UsageRecord
from contracts.adapters import TenantId
from contracts.errors import StoreUnavailable

HOUR_S = 3600.0
NOW_S = 1_000_000 * SLICE_S + 17.0
SMALL = UsageBounds(page=3, max_records=1000, max_sums=1000, fresh_s=0)
TENANTS, MODELS = ("acme", "globex"), ("m", "m:a", "m:b")


class Clock:
    now_s = NOW_S

    def __call__(self) -> float:
        return self.now_s


class Log(MemoryPages):
    """Counts what is read; while `is_away` it cannot be."""

    is_away = False
    num_read = 0

    async def before(self, entry_id: str, count: int) -> Sequence[LoggedRecord]:
        return self._told(await super().before(entry_id, count))

    async def after(self, entry_id: str, count: int) -> Sequence[LoggedRecord]:
        return self._told(await super().after(entry_id, count))

    def _told(self, found: Sequence[LoggedRecord]) -> Sequence[LoggedRecord]:
        if self.is_away:
            raise StoreUnavailable("away")
        self.num_read += len(found)
        return found


def make_record(age_s: float, tenant: str = "acme", model: str = "m:a") -> UsageRecord:
    return UsageRecord(NOW_S - age_s, tenant, "k", "r", model, "", "stop", 5, 3, 2, 0.1)


def make_usage(
    records: Sequence[UsageRecord | None], bounds: UsageBounds = SMALL
) -> tuple[RecentUsage, Log, Clock]:
    log, clock = Log(records), Clock()
    return RecentUsage(log, clock, bounds), log, clock


def requests_of(report: UsageReport) -> dict[tuple[str, str], int]:
    return {(row.tenant, row.model): row.use.num_requests for row in report.rows}


def slow_sums(
    records: Sequence[UsageRecord | None], since_s: float, tenant: str | None, by_model: bool
) -> dict[tuple[str, str], int]:
    found = [r for r in records if r and r.time_s >= since_s and tenant in (None, r.tenant)]
    return dict(Counter((r.tenant, r.model if by_model else "") for r in found))


RECORDS = st.lists(
    st.none()
    | st.builds(
        make_record, st.floats(0, 4 * HOUR_S), st.sampled_from(TENANTS), st.sampled_from(MODELS)
    ),
    max_size=25,
).map(lambda found: sorted(found, key=lambda record: record.time_s if record else 0.0))


@given(RECORDS, RECORDS, st.sampled_from((None, *TENANTS)), st.booleans(), st.floats(1, 5))
def test_a_report_is_what_a_loop_over_all_records_says(
    old: list[UsageRecord | None],
    new: list[UsageRecord | None],
    tenant: str | None,
    by_model: bool,
    hours: float,
) -> None:
    async def run() -> None:
        usage, log, clock = make_usage(old)
        await usage.report(HOUR_S)  # a shorter look first: the rest is read when it is asked for
        log.records += new
        clock.now_s += 5
        wanted = None if tenant is None else TenantId(tenant)
        report = await usage.report(hours * HOUR_S, tenant=wanted, by_model=by_model)
        assert report.is_complete
        assert report.since_s <= clock.now_s - hours * HOUR_S < report.since_s + SLICE_S
        assert requests_of(report) == slow_sums(log.records, report.since_s, tenant, by_model)
        tokens = [row.use.num_prompt_tokens + row.use.num_generated_tokens for row in report.rows]
        assert all(left >= right for left, right in pairwise(tokens))

    asyncio.run(run())


async def test_a_look_costs_a_part_and_the_next_goes_farther_back() -> None:
    records = [make_record(60.0 * place) for place in range(100, 0, -1)]
    bounds = UsageBounds(page=5, max_records=20, max_sums=1000, fresh_s=1)
    usage, log, clock = make_usage(records, bounds)
    counted: list[int] = []
    for look in range(6):
        report = await usage.report(24 * HOUR_S)
        counted.append(sum(row.use.num_requests for row in report.rows))
        # That there is nothing before the hundredth is seen by looking.
        assert report.is_complete == (look == 5)
        assert report.is_complete or report.since_s == NOW_S - 60.0 * counted[-1]
        clock.now_s += 1
    assert counted == [20, 40, 60, 80, 100, 100]
    assert log.num_read == 100


async def test_it_is_not_read_again_at_once() -> None:
    bounds = UsageBounds(fresh_s=2)
    usage, log, clock = make_usage([make_record(5)], bounds)
    await asyncio.gather(*(usage.report(HOUR_S) for _ in range(20)))
    log.records.append(make_record(0))
    assert requests_of(await usage.report(HOUR_S)) == {("acme", ""): 1}
    assert log.num_read == 1
    clock.now_s += 2
    assert requests_of(await usage.report(HOUR_S)) == {("acme", ""): 2}


async def test_what_is_held_is_bounded() -> None:
    records = [make_record(60.0, tenant=f"t{number}") for number in range(50)]
    bounds = UsageBounds(page=5, max_records=1000, max_sums=20, fresh_s=0)
    usage, log, clock = make_usage(records, bounds)
    for _ in range(10):
        clock.now_s += 1
        log.records += [make_record(0.0, tenant=f"n{clock.now_s}-{number}") for number in range(7)]
        report = await usage.report(HOUR_S)
        assert len(report.rows) <= 20
        assert not report.is_complete
    newest = {row.tenant for row in report.rows}
    assert newest >= {f"n{clock.now_s}-{number}" for number in range(7)}


async def test_a_long_pause_is_not_caught_up_with() -> None:
    bounds = UsageBounds(page=5, max_records=10, fresh_s=0)
    usage, log, clock = make_usage([make_record(50)], bounds)
    await usage.report(HOUR_S)
    log.records += [make_record(0) for _ in range(500)]
    clock.now_s += 60
    report = await usage.report(HOUR_S)
    assert log.num_read < 40
    assert not report.is_complete
    assert requests_of(report)[("acme", "")] >= 10


async def test_an_empty_log_is_complete_and_is_asked_again() -> None:
    usage, log, clock = make_usage([])
    assert await usage.report(HOUR_S) == UsageReport(
        (NOW_S - HOUR_S) // SLICE_S * SLICE_S, True, []
    )
    log.records.append(make_record(0))
    clock.now_s += 1
    assert requests_of(await usage.report(HOUR_S)) == {("acme", ""): 1}


async def test_a_log_that_is_away_is_said_and_nothing_is_counted_twice() -> None:
    usage, log, clock = make_usage([make_record(60.0 * place) for place in range(9, 0, -1)])
    await usage.report(HOUR_S)
    log.is_away = True
    clock.now_s += 1
    with pytest.raises(StoreUnavailable):
        await usage.report(HOUR_S)
    log.is_away = False
    assert requests_of(await usage.report(HOUR_S)) == {("acme", ""): 9}
