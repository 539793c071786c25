import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replicas.fair_limits import FairLimits
from replicas.fair_queue import FairQueue
from replicas.service_order import Tenant


def add(queue: FairQueue, tenant: str, weight: float = 1.0, num_seqs: int = 1) -> int:
    request_id, shed = queue.add(tenant, weight, num_seqs, 10, 0.0)
    assert shed is None
    return request_id


def picked(queue: FairQueue) -> list[int]:
    """All that fit now."""
    found = []
    while (pick := queue.pick(0.0)) is not None:
        found.append(pick[0])
    return found


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    weights=st.lists(st.sampled_from([0.5, 1.0, 2.0, 4.0]), min_size=2, max_size=5),
    max_num_seqs=st.integers(1, 8),
    reserved=st.integers(0, 3),
)
def test_backlogged_tenants_are_served_alike(
    seed: int, weights: list[float], max_num_seqs: int, reserved: int
) -> None:
    """Theorem 4.4: however long they are and whatever they ask for, service stays close."""
    rng = random.Random(seed)
    limits = FairLimits(max_num_seqs, reserved, max_prefill_tokens=60, burst_cost=100.0)
    queue = FairQueue(limits)
    tenants = {f"t{i}": weight for i, weight in enumerate(weights)}
    shape = {t: (rng.randint(1, 60), rng.randint(1, 30)) for t in tenants}
    owners: dict[int, str] = {}
    left: dict[int, int] = {}
    for tenant in list(tenants) * 3:
        owners[queue.add(tenant, tenants[tenant], 1, shape[tenant][0], 0.0)[0]] = tenant
    bound = queue.bound(60, limits.max_running_seqs * (60 + 30), min(weights))
    for _ in range(200):
        for request_id in picked(queue):
            owner = owners[request_id]
            left[request_id] = shape[owner][1]
            owners[queue.add(owner, tenants[owner], 1, shape[owner][0], 0.0)[0]] = owner
        # Work-conserving: there is always something waiting, so that only room can be missing.
        is_full = queue.num_running_seqs >= max_num_seqs
        assert is_full or queue.num_prefill_tokens + 60 > limits.max_prefill_tokens
        for request_id in list(left):
            queue.charge(request_id, 1)
            left[request_id] -= 1
            if not left[request_id]:
                del left[request_id]
                queue.leave(request_id, 0.0)
        counters = [queue.service(t) for t in tenants]
        assert max(counters) - min(counters) <= bound


def test_service_follows_weights() -> None:
    queue = FairQueue(FairLimits(8, 1, burst_cost=50.0))
    owners: dict[int, str] = {}
    served: Counter[str] = Counter()
    weights = {"one": 1.0, "two": 2.0, "four": 4.0}
    for tenant in list(weights) * 32:
        owners[add(queue, tenant, weights[tenant])] = tenant
    running: list[tuple[int, int]] = []
    for step in range(4000):
        for request_id in picked(queue):
            running.append((request_id, step + 10))
            tenant = owners[request_id]
            owners[add(queue, tenant, weights[tenant])] = tenant
        for request_id, end in list(running):
            queue.charge(request_id, 1)
            served[owners[request_id]] += 1
            if end == step:
                running.remove((request_id, end))
                queue.leave(request_id, 0.0)
    assert served["two"] / served["one"] == pytest.approx(2, rel=0.05)
    assert served["four"] / served["one"] == pytest.approx(4, rel=0.05)


def test_one_goes_before_a_newcomer_however_many_wait() -> None:
    queue = FairQueue(FairLimits(4, 0))
    crowd = [add(queue, "crowd") for _ in range(1000)]
    assert picked(queue) == crowd[:4]
    newcomer = add(queue, "newcomer")
    assert picked(queue) == []
    queue.leave(crowd[0], 0.0)
    queue.leave(crowd[1], 0.0)
    assert picked(queue) == [crowd[4], newcomer]


def test_the_reserve_is_for_those_who_come_now_and_then() -> None:
    queue = FairQueue(FairLimits(4, 2, burst_cost=50.0))
    crowd = [add(queue, "crowd") for _ in range(10)]
    # Nobody knows yet that it is a crowd: its first burst may use all there is.
    assert picked(queue) == crowd[:6]
    queue.leave(crowd[0], 0.0)
    queue.leave(crowd[1], 0.0)
    assert picked(queue) == []
    first, second, third = (add(queue, name) for name in ("ada", "bob", "joe"))
    assert picked(queue) == [first, second]
    queue.leave(crowd[2], 0.0)
    assert picked(queue) == [third]


def test_what_active_tenants_leave_unused_is_partly_kept_for_them() -> None:
    queue = FairQueue(FairLimits(8, 0, burst_cost=0.0, held_share=0.5, active_s=10.0))
    visit = add(queue, "visitor")
    assert picked(queue) == [visit]
    queue.leave(visit, 0.0)
    crowd = [add(queue, "crowd") for _ in range(20)]
    # Half of what the visitor's half is.
    assert picked(queue) == crowd[:6]
    assert queue.pick(9.0) is None
    later = [queue.pick(10.0), queue.pick(10.0), queue.pick(10.0)]
    assert [pick and pick[0] for pick in later] == [crowd[6], crowd[7], None]


def test_who_was_idle_has_saved_nothing() -> None:
    queue = FairQueue(FairLimits(1, 0))
    add(queue, "idle")
    queue.leave(picked(queue)[0], 0.0)
    for _ in range(50):
        add(queue, "busy")
        (request_id,) = picked(queue)
        queue.charge(request_id, 100)
        queue.leave(request_id, 0.0)
    busy = [add(queue, "busy") for _ in range(3)]
    idle = [add(queue, "idle") for _ in range(3)]
    turns = []
    for _ in range(6):
        (request_id,) = picked(queue)
        turns.append(request_id in idle)
        queue.charge(request_id, 100)
        queue.leave(request_id, 0.0)
    assert sorted(turns[:2]) == sorted(turns[2:4]) == [False, True]
    assert set(busy).isdisjoint(idle)


def test_a_debt_is_not_forgotten_by_leaving() -> None:
    queue = FairQueue(FairLimits(2, 0))
    patient = [add(queue, "patient") for _ in range(6)]
    greedy = add(queue, "greedy")
    assert picked(queue) == [patient[0], greedy]
    queue.charge(greedy, 1000)
    queue.leave(greedy, 0.0)
    again = add(queue, "greedy")
    queue.leave(patient[0], 0.0)
    assert again not in picked(queue)


def test_a_full_queue_sheds_the_longest() -> None:
    queue = FairQueue(FairLimits(1, 0, max_waiting=4))
    add(queue, "running")
    picked(queue)
    long = [add(queue, "long") for _ in range(3)]
    short = add(queue, "short")
    refused, shed = queue.add("long", 1.0, 1, 10, 0.0)
    assert shed == refused
    assert queue.is_full_for("long")
    assert not queue.is_full_for("short")
    _, shed = queue.add("short", 1.0, 1, 10, 0.0)
    assert shed == long[-1]
    # Equal by now: nobody's is longer, so that the new one goes.
    refused, shed = queue.add("short", 1.0, 1, 10, 0.0)
    assert shed == refused
    assert queue.num_waiting == 4
    assert short
    queue.check_integrity()


def test_many_sequences_count_as_many() -> None:
    queue = FairQueue(FairLimits(4, 0))
    first, second = add(queue, "ada", num_seqs=3), add(queue, "ada", num_seqs=3)
    third = add(queue, "bob")
    assert picked(queue) == [first, third]
    queue.leave(first, 0.0)
    assert picked(queue) == [second]
    queue.leave(second, 0.0)
    queue.leave(third, 0.0)
    # More than the engine has: alone it runs all the same.
    assert picked(queue) == []
    whole = add(queue, "ada", num_seqs=99)
    assert picked(queue) == [whole]
    assert queue.num_running_seqs == 4


def test_prompts_enter_a_step_at_a_time() -> None:
    queue = FairQueue(FairLimits(20, 2, max_prefill_tokens=25, burst_cost=5.0))
    running = add(queue, "crowd", num_seqs=12)
    assert picked(queue) == [running]
    queue.charge(running, 1)
    crowd = [add(queue, "crowd") for _ in range(5)]
    assert picked(queue) == crowd[:2]
    other = add(queue, "other")
    assert picked(queue) == [other]
    assert not queue.charge(crowd[0], 0)
    assert queue.charge(crowd[0], 1)
    assert not queue.charge(crowd[0], 1)
    assert picked(queue) == []
    assert queue.charge(other, 1)
    assert picked(queue) == [crowd[2]]


def test_priorities_are_virtual_time_and_newcomers_first() -> None:
    queue = FairQueue(FairLimits(4, 0, burst_cost=15.0))
    for _ in range(4):
        add(queue, "crowd")
    priorities = []
    while (pick := queue.pick(0.0)) is not None:
        priorities.append(pick[1])
    assert priorities == sorted(priorities)
    assert priorities[1] < 1000 < priorities[2]


@pytest.mark.parametrize("weight", [0.0, -1.0, float("inf"), float("nan")])
def test_a_weight_is_a_number_above_zero(weight: float) -> None:
    with pytest.raises(ValueError, match="weight"):
        FairQueue(FairLimits()).add("ada", weight, 1, 1, 0.0)


def test_tenants_that_have_gone_are_forgotten() -> None:
    queue = FairQueue(FairLimits(4, 0))
    for number in range(25_000):
        request_id = add(queue, f"tenant-{number}")
        assert picked(queue) == [request_id]
        queue.charge(request_id, 3)
        queue.leave(request_id, 0.0)
    assert "10000 tenants" in repr(queue) or int(repr(queue).split()[-2]) <= 10_001
    assert queue.num_running_seqs == 0


def test_the_work_of_a_call_does_not_grow_with_the_tenants(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Tenants looked at, not seconds: a heap's depth, where a scan would take thousands."""
    queue = FairQueue(FairLimits(1, 0, max_waiting=10**6))
    looks = 0
    for number in range(4000):
        add(queue, f"tenant-{number}")
        add(queue, f"tenant-{number}")

    def counted(owner: Tenant) -> tuple[float, int]:
        nonlocal looks
        looks += 1
        return owner.counter, owner.since

    monkeypatch.setattr(Tenant, "order", property(counted))
    for _ in range(4000):
        (request_id,) = picked(queue)
        queue.charge(request_id, 5)
        queue.leave(request_id, 0.0)
    assert looks < 20 * 4000
