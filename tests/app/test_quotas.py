"""Charging windows: one call for all, nothing leaks, and what happens while the ledger is away."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from adapter_cache.store import MemoryStore
from app.ask import Ask
from app.dispatcher import LocalDispatcher
from app.door_metrics import DoorMetrics
from app.quota import Bill, Outcome, OverQuota, Standing
from app.quota_ledger import MemoryLedger
from app.quotas import Quotas
from app.request_observer import RequestEnd
from app.token_stream import TokenStream
from app.window import Window
from contracts.access import Caller, Quota
from contracts.adapters import BASE, DEFAULT_TENANT, AdapterKey, AdapterRef
from contracts.errors import InvalidRequest, ServingError, StoreUnavailable
from contracts.generation import Sampling
from tests.app.parts import CountingReplica, publish


class Ledger(MemoryLedger):
    """Counts its calls; may be slow, or away."""

    def __init__(self, delay_s: float = 0.0) -> None:
        super().__init__(60)
        self.calls: list[Sequence[Bill]] = []
        self.delay_s = delay_s
        self.error: Exception | None = None

    async def settle(self, bills: Sequence[Bill]) -> list[list[Outcome]]:
        self.calls.append(bills)
        await asyncio.sleep(self.delay_s)
        if self.error:
            raise self.error
        return await super().settle(bills)

    def num_leases(self) -> int:
        return sum(len(usage.leases_us) for usage in self._keys.values())


def make_ask(
    request_id: str, quota: Quota, key: str = "k", adapter: str | None = None, n: int = 1
) -> Ask:
    caller = Caller(key, DEFAULT_TENANT, frozenset(), quota=quota)
    ref = AdapterRef(DEFAULT_TENANT, adapter) if adapter else None
    return Ask(request_id, "tiny", ref, (1, 2), Sampling(3, n=n), caller)


def make_quotas(ledger: MemoryLedger, timeout_s: float = 0.2, pause_s: float = 0.05) -> Quotas:
    return Quotas(ledger, MemoryLedger(60), timeout_s=timeout_s, pause_s=pause_s)


def make_window(quotas: Quotas, replica: CountingReplica | None = None) -> Window:
    dispatcher = LocalDispatcher(replica or CountingReplica())
    return Window(MemoryStore(), dispatcher, store_timeout_s=1, base_wait_s=0.01, quotas=quotas)


def end(num_generated: int) -> RequestEnd:
    return RequestEnd("length", 2, 0, num_generated, None, 0.0, BASE.digest)


async def read(stream: TokenStream) -> str | ServingError:
    try:
        return "".join([d.text async for burst in stream for d in burst])
    except ServingError as error:
        return error


async def until(done: Callable[[], bool], limit_s: float = 5.0) -> None:
    async with asyncio.timeout(limit_s):
        while not done():  # noqa: ASYNC110 (nothing says when)
            await asyncio.sleep(0.005)


async def test_a_window_is_one_call_and_a_refusal_is_alone() -> None:
    ledger, metrics = Ledger(), DoorMetrics()
    window = make_window(Quotas(ledger, MemoryLedger(60), metrics=metrics))
    one, two = Quota(requests_per_min=1), Quota(requests_per_min=2)
    asks = [
        make_ask("a0", one, "a"),
        make_ask("a1", one, "a"),
        make_ask("b0", two, "b"),
        make_ask("free", Quota(), "c"),
        make_ask("b1", two, "b"),
    ]
    streams = window.open(asks)
    answers = await asyncio.gather(*map(read, streams))
    assert [type(answer) for answer in answers] == [str, OverQuota, str, str, str]
    assert [[bill.key_id for bill in bills] for bills in ledger.calls[:1]] == [["a", "b"]]
    assert [stream.standing is not None for stream in streams] == [True, False, True, False, True]
    assert 'flora_rate_limited_requests_total{limit="requests"} 1.0' in metrics.render().decode()
    await window.aclose()


async def test_resumed_tokens_cost_what_a_prompt_costs() -> None:
    ledger = Ledger()
    window = make_window(make_quotas(ledger))
    ask = make_ask("r", Quota(tokens_per_min=100))
    whole, resumed = replace(ask, request_id="w"), replace(ask, resumed_token_ids=(0, 1))
    answers = [await read(stream) for stream in window.open([whole, resumed])]
    assert answers == ["base0 base1 base2 ", "base2 "]
    [bill] = ledger.calls[0]
    assert [charge.num_tokens for charge in bill.charges] == [5, 5]

    def used() -> dict[str, int]:
        bills = [bill for bills in ledger.calls for bill in bills]
        return {end.request_id: end.used_tokens for bill in bills for end in bill.releases}

    await until(lambda: len(used()) == 2)
    assert used() == {"w": 5, "r": 5}
    await window.aclose()


async def test_callers_without_quotas_cost_no_call() -> None:
    ledger = Ledger()
    window = make_window(make_quotas(ledger))
    assert await read(window.open([make_ask("r", Quota())])[0]) == "base0 base1 base2 "
    assert ledger.calls == []


async def test_what_can_never_pass_is_refused_without_a_call() -> None:
    ledger = Ledger()
    window = make_window(make_quotas(ledger))
    [stream] = window.open([make_ask("r", Quota(tokens_per_min=2))])
    assert isinstance(await read(stream), InvalidRequest)
    assert ledger.calls == []


async def test_a_slow_ledger_costs_its_own_callers_a_bounded_wait_and_others_none() -> None:
    window = make_window(make_quotas(Ledger(delay_s=60), timeout_s=0.1))
    charged, free = window.open([make_ask("r", Quota(10)), make_ask("free", Quota(), "c")])
    async with asyncio.timeout(0.09):
        assert await read(free) == "base0 base1 base2 "
    assert await read(charged) == "base0 base1 base2 "
    await window.aclose()


async def test_a_slow_registry_does_not_hold_up_who_needs_the_ledger_alone() -> None:
    class SlowStore(MemoryStore):
        async def resolve(self, refs: Sequence[AdapterRef]) -> list[AdapterKey | None]:
            await asyncio.sleep(0.5)
            return await super().resolve(refs)

    store = SlowStore()
    await publish(store, "a")
    window = Window(
        store,
        LocalDispatcher(CountingReplica()),
        store_timeout_s=2,
        base_wait_s=0.01,
        quotas=make_quotas(Ledger()),
    )
    adapted, base = window.open([make_ask("a", Quota(9), adapter="a"), make_ask("b", Quota(9))])
    async with asyncio.timeout(0.3):
        assert await read(base) == "base0 base1 base2 "
    assert await read(adapted) == "a0 a1 a2 "
    await window.aclose()


async def test_while_the_ledger_is_away_each_door_holds_the_limits_by_itself() -> None:
    ledger = Ledger()
    quotas = make_quotas(ledger)
    quota = Quota(requests_per_min=3, max_streams=2)
    first = await quotas.charge([make_ask("r0", quota)])
    ledger.error = StoreUnavailable("away")
    verdicts = await quotas.charge([make_ask(f"r{i}", quota) for i in (1, 2, 3)])
    assert [type(v) for v in (*first.values(), *verdicts.values())] == [
        Standing,
        Standing,
        Standing,
        OverQuota,
    ]
    # Nobody waits for it again before the pause is over.
    calls = len(ledger.calls)
    await quotas.charge([make_ask("r4", quota)])
    assert len(ledger.calls) == calls
    quotas.ended("r0", make_ask("r0", quota).caller, "tiny", end(0))
    ledger.error = None
    # What ended meanwhile is told once it is back.
    await until(lambda: ledger.num_leases() == 0)
    await quotas.aclose()


async def test_a_caller_who_asks_again_at_once_never_meets_its_own_last_request() -> None:
    ledger = Ledger(delay_s=0.002)
    window = make_window(make_quotas(ledger))
    for number in range(20):
        [stream] = window.open([make_ask(f"r{number}", Quota(max_streams=1))])
        assert await read(stream) == "base0 base1 base2 "
    await window.aclose()


async def test_a_request_that_ends_while_it_is_charged_leaves_nothing_behind() -> None:
    ledger = Ledger(delay_s=0.02)
    quotas = make_quotas(ledger)
    window = make_window(quotas)
    for number in range(3):
        [stream] = window.open([make_ask(f"r{number}", Quota(tokens_per_min=1000, max_streams=9))])
        await asyncio.sleep(0.005)
        stream.close()
    await until(lambda: len(ledger.calls) >= 4 and ledger.num_leases() == 0)
    assert "0 requests held, 0 ends" in repr(quotas)
    await window.aclose()


@pytest.mark.parametrize("seed", range(3))
async def test_nothing_leaks_whatever_happens(seed: int) -> None:
    rng, ledger = random.Random(seed), Ledger(delay_s=0.001)
    quotas = make_quotas(ledger, pause_s=0.01)
    window = make_window(quotas, CountingReplica(step_s=0.0005))
    quota = Quota(requests_per_min=100_000, tokens_per_min=1_000_000, max_streams=40)

    async def one(number: int) -> None:
        await asyncio.sleep(rng.random() * 0.3)
        ledger.error = StoreUnavailable("away") if rng.random() < 0.1 else None
        name = rng.choice([None, "unknown"])
        key = rng.choice("abc")
        ask = make_ask(f"r{number}", quota, key, name, rng.randint(1, 3))
        [stream] = window.open([ask])
        if rng.random() < 0.4:
            await asyncio.sleep(rng.random() * 0.004)
            stream.close()
        else:
            await read(stream)

    await asyncio.gather(*(one(number) for number in range(200)))
    ledger.error = None
    await until(lambda: "0 requests held, 0 ends" in repr(quotas))
    assert (ledger.num_leases(), window.num_running) == (0, 0)
    await window.aclose()
    await quotas.aclose()


async def test_ends_that_wait_are_bounded() -> None:
    ledger = Ledger()
    quotas = Quotas(ledger, MemoryLedger(60), pause_s=0.02, max_releases=5)
    asks = [make_ask(f"r{i}", Quota(100)) for i in range(9)]
    await quotas.charge(asks)
    ledger.error = StoreUnavailable("away")
    for ask in asks:
        quotas.ended(ask.request_id, ask.caller, "tiny", end(1))
    assert "5 ends" in repr(quotas)
    ledger.error = None
    await until(lambda: "0 ends" in repr(quotas))
    assert ledger.num_leases() == 4


async def test_a_ledger_forgets_idle_keys_and_the_oldest() -> None:
    now_s = [0.0]
    ledger = MemoryLedger(5, max_keys=3, clock=lambda: now_s[0])
    for key in "abcd":
        ask = make_ask(key, Quota(60), key)
        quotas = Quotas(ledger, MemoryLedger(5))
        await quotas.charge([ask])
    assert len(ledger) == 3
    now_s[0] = 100.0
    await ledger.settle([Bill(key, Quota(60)) for key in "bcd"])
    assert len(ledger) == 0
