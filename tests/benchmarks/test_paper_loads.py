from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.paper_loads import (
    LENGTHS_FILE,
    Ask,
    at_once,
    is_measured,
    poisson,
    sharegpt_lengths,
)

ROWS = [(10, 20), (100, 150), (30, 45), (1500, 900), (600, 200)]


def write_lengths(folder: Path) -> Path:
    rows = "".join(f"{p},{a},{p + a},{p / a}\n" for p, a in ROWS)
    head = "num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n"
    (folder / LENGTHS_FILE).write_text(head + rows)
    return folder


def test_lengths_are_those_of_50_to_2000_tokens_divided(tmp_path: Path) -> None:
    folder = write_lengths(tmp_path)
    found = sharegpt_lengths(folder, 3, 10, np.random.default_rng(0))
    assert sorted(found) == [(3, 4), (10, 15), (60, 20)]
    assert is_measured(folder)
    assert len(sharegpt_lengths(folder, 50, 10, np.random.default_rng(0))) == 50


@given(num=st.integers(1, 60), divisor=st.sampled_from([1, 32]), seed=st.integers(0, 9))
def test_without_the_file_lengths_are_made_up_within_the_same_bounds(
    num: int, divisor: int, seed: int
) -> None:
    nowhere = Path("/nowhere")
    found = sharegpt_lengths(nowhere, num, divisor, np.random.default_rng(seed))
    assert len(found) == num
    assert all(1 <= n <= 2000 // divisor for pair in found for n in pair)
    assert found == sharegpt_lengths(nowhere, num, divisor, np.random.default_rng(seed))
    assert not is_measured(nowhere)


def test_ranks_and_adapters_go_round() -> None:
    asks = at_once([(5, 6)] * 4, (1, 8), 2)
    assert asks == [Ask(0.0, 5, 6, 1, 0), Ask(0.0, 5, 6, 8, 1)] * 2


def test_poisson_arrivals_have_the_rate() -> None:
    asks = poisson([(1, 2)] * 4000, 8.0, 4, 4000, np.random.default_rng(0))
    times = [ask.at_s for ask in asks]
    assert times == sorted(times)
    assert abs(4000 / times[-1] - 8) < 0.5
    gaps = np.diff(times)
    assert abs(gaps.std() * 8 - 1) < 0.1
    assert {ask.rank for ask in asks} == {4}
    assert len({ask.adapter for ask in asks}) == 4000
