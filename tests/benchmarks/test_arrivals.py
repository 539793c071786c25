from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from benchmarks.arrivals import (
    Arrival,
    adapters_without_end,
    azure_arrivals,
    zipf_adapters,
    zipf_arrivals,
)

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens"


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    """One request a second of each service, and twice as many within the last half minute."""
    times = [*range(60), *(second + 0.5 for second in range(30, 60))]
    for name, context in (("conv", 800), ("code", 80_000)):
        rows = [f"2023-11-16 18:15:{t:010.7f},{context},40" for t in sorted(times)]
        path = tmp_path / f"AzureLLMInferenceTrace_{name}.csv"
        path.write_text("\n".join([HEADER, *rows]))
    return tmp_path


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_the_n_th_adapter_has_an_n_th_of_the_first_ones_requests() -> None:
    found = Counter(zipf_adapters(100_000, 50, rng()).tolist())
    assert len(found) == 50
    for rank in (2, 5, 10):
        assert found[0] / found[rank - 1] == pytest.approx(rank, rel=0.1)


def test_zipf_asks_for_what_is_wanted() -> None:
    arrivals = zipf_arrivals(100, 1000, 50, rng())
    assert sum(a.num_tokens for a in arrivals) == pytest.approx(100 * 1000, rel=0.1)
    times = [a.at_s for a in arrivals]
    assert times == sorted(times)
    assert 0 <= times[0] < times[-1] <= 100


def test_a_seed_decides_the_load() -> None:
    assert zipf_arrivals(10, 1000, 50, rng()) == zipf_arrivals(10, 1000, 50, rng())


def test_azure_keeps_the_order_and_clips_the_lengths(traces: Path) -> None:
    arrivals = azure_arrivals(traces, 10, 1000, 50, rng())
    assert sum(a.num_tokens for a in arrivals) == pytest.approx(10 * 1000, rel=0.05)
    assert {(a.num_prompt_tokens, a.num_answer_tokens) for a in arrivals} == {(100, 10), (256, 10)}
    times = [a.at_s for a in arrivals]
    assert times == sorted(times)
    assert times[0] == 0
    assert times[-1] == pytest.approx(10)


def test_azure_says_what_is_absent(tmp_path: Path, traces: Path) -> None:
    with pytest.raises(FileNotFoundError, match="AzureLLMInferenceTrace_conv"):
        azure_arrivals(tmp_path / "elsewhere", 10, 1000, 50, rng())
    with pytest.raises(ValueError, match="tokens"):
        azure_arrivals(traces, 1000, 1000, 50, rng())


def test_the_hot_adapter_has_its_share() -> None:
    found = Counter(islice(adapters_without_end(100, 0.6, rng()), 50_000))
    assert found[0] / 50_000 == pytest.approx(0.604, abs=0.01)
    assert len(found) == 100
    even = Counter(islice(adapters_without_end(100, 0.0, rng()), 50_000))
    assert max(even.values()) < 2 * min(even.values())


def test_a_request_costs_its_prompt_and_its_answer() -> None:
    assert Arrival(0.0, 1, 5, 7).num_tokens == 12
