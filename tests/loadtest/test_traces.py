from pathlib import Path

import pytest

from loadtest.traces import azure_arrivals, mooncake_arrivals, piece_of, read_azure
from tests.loadtest.loads import CONV, make_load, rng, write_traces


def test_both_services_come_in_order_at_the_wanted_rate(tmp_path: Path) -> None:
    load = make_load(data=write_traces(tmp_path), rate=3.0, duration_s=10.0)
    arrivals = azure_arrivals(load, rng())
    times = [arrival.at_s for arrival in arrivals]
    assert len(times) == 30
    assert times == sorted(times)
    assert times[0] == 0
    assert times[-1] < 10.0
    assert {(a.ask.num_prompt_tokens, a.ask.num_answer_tokens) for a in arrivals} == {(100, 5)}


def test_gaps_keep_their_proportions(tmp_path: Path) -> None:
    rows = read_azure(write_traces(tmp_path) / "azure_llm_trace_2023" / CONV)
    found = piece_of(rows, make_load(rate=1.0, duration_s=10.0), rng())
    assert [row.at_s for row in found] == pytest.approx(list(range(10)))


def test_a_conversation_has_one_adapter_and_its_own_prefix(tmp_path: Path) -> None:
    load = make_load(data=write_traces(tmp_path), rate=1.0, duration_s=40.0)
    arrivals = mooncake_arrivals(load, rng())
    pairs = {(arrival.ask.blocks[:2], arrival.ask.adapter) for arrival in arrivals}
    assert len(arrivals) == 40
    assert sorted(blocks for blocks, _ in pairs) == [(0, 1), (0, 2), (0, 3)]


def test_a_trace_that_is_too_short_says_how_long_it_is(tmp_path: Path) -> None:
    load = make_load(data=write_traces(tmp_path), rate=10.0, duration_s=10.0)
    with pytest.raises(ValueError, match="40 requests: enough for 4 s"):
        azure_arrivals(load, rng())


@pytest.mark.parametrize("make", [azure_arrivals, mooncake_arrivals])
def test_a_trace_that_is_not_there_is_named(make) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(FileNotFoundError, match="say with --data"):
        make(make_load(data=Path("/nowhere")), rng())
