"""Whole runs: nothing is lost, nothing depends on luck, and theory agrees."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from routing.simulator.outcome import outcome_of
from routing.simulator.routers import ROUTERS
from routing.simulator.scene import Event, Scene
from tests.routing.simulator.scenes import FAST, TINY, fixed_requests, make_requests, simulate


@pytest.mark.parametrize("router", ROUTERS)
def test_every_request_ends_with_all_its_tokens(router: str) -> None:
    arrivals = make_requests(rate=100, seconds=3)
    wanted = arrivals.trace.answer_tokens.tolist()
    events = (Event(1.0, "kill", 2), Event(1.5, "add"), Event(2.0, "kill", 0))
    trail = simulate(router, arrivals, events=events)
    assert [job.generated + job.answer_tokens for job in trail.jobs] == wanted
    assert all(job.arrived_s < job.first_token_s <= job.ended_s for job in trail.jobs)
    killed = [job for job in trail.jobs if job.replica in (0, 2)]
    assert all(job.ended_s <= {2: 1.0, 0: 2.0}[job.replica] for job in killed)
    assert any(job.num_losses for job in trail.jobs)
    assert any(job.replica == 4 for job in trail.jobs)


@pytest.mark.parametrize("router", ROUTERS)
def test_the_seed_decides(router: str) -> None:
    arrivals = make_requests(rate=100, seconds=2)
    first, again = (outcome_of(simulate(router, arrivals)) for _ in range(2))
    assert asdict(first) == asdict(again)
    other = outcome_of(simulate(router, make_requests(rate=100, seconds=2, seed=1)))
    assert asdict(other) != asdict(first)


def test_one_server_waits_as_queueing_theory_says() -> None:
    """M/D/1: one sequence at a time, each of the same length, Poisson arrivals."""
    one = replace(TINY, max_num_seqs=1, step_s=0.01, sequence_s=0.0, prompt_token_s=0.0)
    service_s, load = 0.1, 0.7
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.exponential(service_s / load, 20_000))
    arrivals = fixed_requests(times.tolist(), prompt_tokens=10, answer_tokens=10)
    trail = simulate("round-robin", arrivals, profile=one, replicas=1, doors=1)
    waits = [job.ended_s - job.arrived_s - service_s for job in trail.jobs]
    pollaczek_khinchine_s = service_s * load / (2 * (1 - load))
    before_s = 0.0025  # window and network
    assert np.mean(waits) - before_s == pytest.approx(pollaczek_khinchine_s, rel=0.08)


def test_no_request_is_routed_while_nobody_is_there() -> None:
    arrivals = fixed_requests([0.0, 3.0], prompt_tokens=10, answer_tokens=2)
    events = (Event(1.0, "kill", 0), Event(8.0, "add"))
    trail = simulate("round-robin", arrivals, replicas=1, doors=1, events=events)
    assert trail.jobs[1].replica == 1
    assert trail.jobs[1].first_token_s > 8.0


@pytest.mark.parametrize("seed", range(3))
def test_ours_finds_more_adapters_than_chance(seed: int) -> None:
    arrivals = make_requests(rate=300, seconds=4, doors=4, adapters=500, seed=seed)
    rates = {
        router: outcome_of(simulate(router, arrivals, replicas=8, doors=4)).device_hit_rate
        for router in ("flora", "flora-fresh", "power-of-two", "round-robin")
    }
    assert min(rates["flora"], rates["flora-fresh"]) > 0.1 + rates["power-of-two"]
    assert min(rates["flora"], rates["flora-fresh"]) > 0.1 + rates["round-robin"]


def test_ours_keeps_adapters_where_they_were_when_a_replica_comes() -> None:
    arrivals = make_requests(rate=200, seconds=8, adapters=100)
    moved = {
        router: outcome_of(
            simulate(router, arrivals, replicas=8, events=(Event(4.0, "add"),))
        ).moved_share
        for router in ("flora", "round-robin")
    }
    assert moved["flora"] < 0.5 * moved["round-robin"]


def test_numbers_are_whole_and_shares_add_up() -> None:
    outcome = outcome_of(simulate("flora", make_requests(rate=100, seconds=2)))
    tiers = (outcome.device_hit_rate, outcome.node_hit_rate, outcome.redis_rate)
    assert sum(tiers) == pytest.approx(1)
    assert json.loads(json.dumps(outcome.metrics(), allow_nan=False)) == outcome.metrics()
    assert outcome.imbalance >= 1
    assert outcome.ttft_p50_s <= outcome.ttft_p95_s <= outcome.ttft_p99_s <= outcome.latency_p99_s


def test_a_scene_without_replicas_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one replica"):
        Scene(FAST, 0, 1)
    with pytest.raises(ValueError, match="no replica 4 to kill"):
        Scene(FAST, 4, 1, (Event(1.0, "kill", 4),))
    with pytest.raises(ValueError, match="1 slots for 32 sequences"):
        replace(FAST, num_slots=1)
