"""The list of adapters at hand: the latest, bounded, and only what is there."""

from hypothesis import given
from hypothesis import strategies as st

from adapter_cache.node_cache import NodeCache
from contracts.adapters import AdapterKey
from contracts.replica import ReplicaReport, digest_word
from replicas.residents import Residents
from tests.replicas.engines import Stack


async def words(echo: Stack, limit: int, keys: list[AdapterKey]) -> tuple[int, ...]:
    residents = Residents(echo.cache, limit)
    for key in keys:
        residents.began(key)
    return await residents.words()


async def fetched(echo: Stack, names: str) -> list[AdapterKey]:
    keys = [await echo.publish(name, seed=seed) for seed, name in enumerate(names)]
    for key in keys:
        await echo.fetcher.ensure(key)
    return keys


async def test_the_latest_used_come_first(echo: Stack) -> None:
    a, b, c = await fetched(echo, "abc")
    found = await words(echo, 10, [a, b, c, a])
    assert found == tuple(digest_word(key.digest) for key in (a, c, b))


async def test_the_list_is_bounded(echo: Stack) -> None:
    a, b, c = await fetched(echo, "abc")
    assert await words(echo, 2, [a, b, c]) == (digest_word(c.digest), digest_word(b.digest))


async def test_what_has_left_the_node_is_not_named(echo: Stack) -> None:
    a, b = await fetched(echo, "ab")
    cache: NodeCache = echo.cache
    assert cache.has(a.digest)
    cache.drop(a.digest)
    assert not cache.has(a.digest)
    assert await words(echo, 10, [a, b]) == (digest_word(b.digest),)


COUNTS = st.integers(0, 2**63)


@given(COUNTS, COUNTS, COUNTS, st.lists(st.integers(0, 2**64 - 1), max_size=50))
def test_a_report_survives_its_way(
    number: int, load: int, running: int, residents: list[int]
) -> None:
    report = ReplicaReport(number, load, running, tuple(residents))
    stats = report.to_stats()
    assert ReplicaReport.from_stats(stats) == report
    assert sum(map(len, stats.values())) == 24 + 8 * len(residents)


def test_whoever_reports_nothing_is_not_misread() -> None:
    assert ReplicaReport.from_stats({}) is None
    assert ReplicaReport.from_stats({"flora": "text"}) is None
