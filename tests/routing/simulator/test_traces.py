from pathlib import Path

import numpy as np
import pytest

from contracts.errors import InvalidRequest
from routing.simulator.traces import FILES, make_trace

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,4808,10
2023-11-16 18:17:04.4799600,3180,0
2023-11-16 18:17:05.9799600,110,27
"""
MOONCAKE = """{"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0]}
{"timestamp": 3000, "input_length": 7322, "output_length": 490, "hash_ids": [0]}
"""
SHAREGPT = """num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio
290,905,1195,0.32
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / FILES[name]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return folder


def test_azure_is_read_and_scaled(tmp_path: Path) -> None:
    make = make_trace("azure-code", write(tmp_path, "azure-code", AZURE))
    trace = make(10.0, 0.6, np.random.default_rng(0))
    assert trace.prompt_tokens.tolist() == [4808, 3180, 110] * 2
    assert trace.answer_tokens.tolist() == [10, 1, 27] * 2
    gaps = np.diff(trace.times_s)
    assert gaps[1] == pytest.approx(3 * gaps[0])
    assert gaps[3] == pytest.approx(gaps[0])


def test_mooncake_is_read(tmp_path: Path) -> None:
    make = make_trace("mooncake", write(tmp_path, "mooncake", MOONCAKE))
    trace = make(2.0, 1.0, np.random.default_rng(0))
    assert trace.prompt_tokens.tolist() == [6758, 7322]
    assert trace.answer_tokens.tolist() == [500, 490]


def test_sharegpt_lends_its_lengths_to_poisson_arrivals(tmp_path: Path) -> None:
    make = make_trace("sharegpt", write(tmp_path, "sharegpt", SHAREGPT))
    trace = make(100.0, 1.0, np.random.default_rng(0))
    assert set(trace.prompt_tokens.tolist()) == {290}
    assert set(trace.answer_tokens.tolist()) == {905}
    assert len(trace.times_s) == 100


@pytest.mark.parametrize("name", FILES)
def test_an_absent_trace_says_what_it_needs(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=FILES[name]):
        make_trace(name, tmp_path)


def test_an_unknown_trace_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="poisson, azure-conv"):
        make_trace("azure", tmp_path)
