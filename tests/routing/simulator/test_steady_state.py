import numpy as np
import pytest

from routing.simulator.popularity import zipf_ranks
from routing.simulator.steady_state import lru_hit_rate
from routing.simulator.tiers import NodeFiles


@pytest.mark.parametrize("exponent", [0.0, 0.8, 1.0])
@pytest.mark.parametrize("capacity", [50, 500])
def test_the_formula_is_what_a_long_run_shows(exponent: float, capacity: int) -> None:
    files = NodeFiles(capacity)
    hits = []
    for adapter in zipf_ranks(60_000, 2_000, exponent, np.random.default_rng(0)).tolist():
        hits.append(files.use(adapter) is not None)
        if not hits[-1]:
            files.add(adapter, 0.0)
    measured = np.mean(hits[20_000:])
    assert lru_hit_rate(2_000, exponent, capacity) == pytest.approx(measured, abs=0.01)


def test_blocks_of_ranks_are_as_good_as_ranks() -> None:
    capacity, num = 10_000, 100_000
    shares = 1 / np.arange(1, num + 1)
    shares /= shares.sum()
    times = np.geomspace(1e3, 1e8, 20_000)
    held = [np.sum(-np.expm1(-shares * time)) for time in times[::200]]
    time = np.interp(capacity, held, times[::200])
    exact = np.sum(shares * -np.expm1(-shares * time))
    assert lru_hit_rate(num, 1.0, capacity) == pytest.approx(exact, abs=0.005)


def test_room_for_all_is_all_hits() -> None:
    assert lru_hit_rate(100, 1.0, 100) == 1.0
