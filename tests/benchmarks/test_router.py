from collections import Counter, defaultdict

import pytest

from benchmarks import router
from benchmarks.record import summarise
from benchmarks.router_traffic import BASE_SHARE, NUM_RESIDENTS, RouterTraffic
from routing.config import RoutingConfig
from routing.policy import Placement


def make_traffic(seed: int = 0) -> RouterTraffic:
    return RouterTraffic(10, RoutingConfig(), seed)


def test_traffic_is_decided_by_its_seed() -> None:
    first, second, other = make_traffic(), make_traffic(), make_traffic(1)
    assert first.reports == second.reports
    assert first.window(64) == second.window(64) != other.window(64)


def test_requests_follow_zipf_beside_those_of_the_base_model() -> None:
    window = make_traffic().window(20_000)
    counts = Counter(request.adapter for request in window)
    assert counts.pop(0) / len(window) == pytest.approx(BASE_SHARE, abs=0.01)
    (_, first), (_, second) = counts.most_common(2)
    assert first / second == pytest.approx(2, abs=0.4)
    assert len(counts) > 5000


def test_as_much_is_done_as_arrives_once_all_have_enough() -> None:
    traffic = make_traffic()
    before = traffic.fleet.loads(0.0)[:10].sum()
    for _ in range(10):
        window = traffic.window(64)
        traffic.send(window, [Placement("replica-3", "home")] * 64)
    added = traffic.fleet.loads(traffic.now_s)[:10].sum() - before
    assert 80 * 64 <= added <= 80 * 512
    assert traffic.now_s == pytest.approx(10 * 64 / 100)


def test_one_report_at_a_time_is_new() -> None:
    traffic = make_traffic()
    before = dict(traffic.reports)
    after = traffic.next_reports()
    changed = [replica_id for replica_id in before if after[replica_id] is not before[replica_id]]
    assert len(changed) == 1
    old, new = before[changed[0]], after[changed[0]]
    assert new.number == old.number + 1
    assert len(new.residents) == NUM_RESIDENTS
    assert len(set(new.residents) - set(old.residents)) <= 16


def test_the_less_loaded_of_two_is_chosen() -> None:
    loads = {"a": 1.0, "b": 2.0, "c": 3.0}
    assert {router.power_of_two(["a", "b"], loads) for _ in range(20)} == {"a"}
    assert {router.power_of_two(list(loads), loads) for _ in range(100)} == {"a", "b"}


def test_a_round_gives_every_metric_that_the_verdict_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(router, "NUM_WARMUP", 1)
    samples: dict[str, list[float]] = defaultdict(list)
    router.measure_round(10, 3, 0, samples)
    for name in list(samples):
        for other in ("r100", "r1000"):
            samples[name.replace("r10", other)] = samples[name]
    router.add_headlines(samples)
    metrics, _ = summarise(samples)
    assert all(value > 0 for value in metrics.values())
    assert "over 1000 replicas a window of 64 takes" in router.verdict(metrics)
    assert metrics["window_ms_r10"] * 1e3 == pytest.approx(
        64 * metrics["decision_us_per_request_r10"]
    )
