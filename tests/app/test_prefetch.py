"""Which adapters are announced, and that nobody waits for it."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from app.prefetch import Prefetcher, RecentDigests
from contracts.adapters import BASE, DEFAULT_TENANT, AdapterKey, Digest


def make_key(digest: str) -> AdapterKey:
    return AdapterKey(DEFAULT_TENANT, f"name-{digest}", 1, Digest(digest), 1)


class Heard:
    """Keeps what it is told; answers when `gate` is open."""

    def __init__(self) -> None:
        self.told: list[list[str]] = []
        self.gate = asyncio.Event()

    async def prefetch(self, keys: tuple[AdapterKey, ...]) -> None:
        self.told.append([key.digest for key in keys])
        await self.gate.wait()


STEPS = st.lists(
    st.tuples(st.lists(st.sampled_from("abcdef"), max_size=4), st.floats(0, 4, allow_nan=False)),
    max_size=20,
)


@given(STEPS, st.integers(1, 4))
def test_a_digest_is_new_when_it_was_not_among_the_latest_for_long(
    steps: list[tuple[list[str], float]], max_digests: int
) -> None:
    """Against the plain reading: a list of all uses in order."""
    recent = RecentDigests(max_digests, quiet_s=3.0)
    now_s, uses = 0.0, list[tuple[str, float]]()
    for digests, pause_s in steps:
        now_s += pause_s
        expected: list[str] = []
        for digest in digests:
            used_at_s = [at_s for other, at_s in uses if other == digest]
            if not used_at_s or now_s - used_at_s[-1] > 3.0:
                expected.append(digest)
            uses = [use for use in uses if use[0] != digest] + [(digest, now_s)]
        uses = uses[-max_digests:]
        taken = recent.take_new(map(make_key, digests), now_s)
        assert [key.digest for key in taken] == expected
        assert len(recent) == len(uses)


def test_the_base_model_is_nothing_to_fetch() -> None:
    assert RecentDigests(4, 1.0).take_new([BASE], 0.0) == ()


async def test_hints_are_repeated_only_after_a_quiet_time() -> None:
    heard = Heard()
    heard.gate.set()
    times_s = iter([0.0, 9.0, 18.0, 30.0])
    prefetcher = Prefetcher(heard, quiet_s=10, clock=lambda: next(times_s))
    for digests in ("ab", "bc", "b", "b"):
        prefetcher.hint(map(make_key, digests))
        await asyncio.sleep(0)
    assert heard.told == [["a", "b"], ["c"], ["b"]]


async def test_what_is_told_expressly_is_always_told_within_the_bound() -> None:
    heard = Heard()
    prefetcher = Prefetcher(heard, max_calls=2)
    assert [prefetcher.tell((make_key("a"),)) for _ in range(3)] == [True, True, False]
    await asyncio.sleep(0)
    assert heard.told == [["a"], ["a"]]
    heard.gate.set()
    await asyncio.sleep(0.01)
    assert prefetcher.tell((make_key("a"),))
    assert "calls=1" in repr(prefetcher)
    await prefetcher.aclose()


async def test_closing_ends_what_is_under_way() -> None:
    prefetcher = Prefetcher(Heard())
    prefetcher.tell((make_key("a"),))
    await prefetcher.aclose()
    await asyncio.sleep(0)
    assert "calls=0" in repr(prefetcher)
