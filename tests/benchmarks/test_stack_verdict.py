"""The verdict says each target's outcome, and only of what was measured."""

from benchmarks.stack_verdict import verdict


def test_met_and_missed() -> None:
    text = verdict(
        {
            "http32_share_of_engine": 0.93,
            "grpc32_share_of_engine": 0.88,
            "http_added_ttft_ms_p50": 9.5,
            "vllm_serve_share_of_engine": 0.62,
        }
    )
    assert "HTTP 0.930 of the engine (meets 0.9)" in text
    assert "gRPC 0.880 (misses 0.9)" in text
    assert "first token 9.5 ms later (misses 8 ms)" in text
    assert "1.50 times `vllm serve` in one process" in text


def test_what_was_not_measured_is_not_said() -> None:
    assert verdict({"http32_share_of_engine": 0.5}) == "HTTP 0.500 of the engine (misses 0.9)"
