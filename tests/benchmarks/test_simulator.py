from dataclasses import replace
from pathlib import Path

from benchmarks.plots import draw_simulator
from benchmarks.simulator import CASES, SHOWN, cases_of, name_in, recorded, run_cases, verdict
from routing.simulator.routers import ROUTERS


def test_a_small_case_gives_every_router_its_numbers(tmp_path: Path) -> None:
    small = replace(CASES["zipf_100"], num_replicas=4, num_doors=2, seconds=2.0)
    metrics: dict[str, float] = {}
    for router, outcome in small.comparison(tmp_path).outcomes(ROUTERS):
        metrics |= recorded("zipf_100", router, outcome)
    assert len(metrics) == len(ROUTERS) * len(SHOWN)
    assert cases_of(metrics) == ["zipf_100"]
    shown = verdict({**metrics, "calibration_held_out_8_tokens_share": 0.9})
    assert all(router in shown for router in ROUTERS)
    assert "within 10% of measured engines" in shown


def test_a_case_without_its_data_is_left_out(tmp_path: Path) -> None:
    assert run_cases(["azure_conv_100"], tmp_path / "absent") == {}


def test_both_sizes_are_drawn() -> None:
    metrics = {
        name_in(case, router, metric): value
        for case in ("zipf_100", "zipf_1000")
        for router in ROUTERS
        for metric, value in (("reuse_device_hit_rate", 0.5), ("ttft_p99_s", 0.2))
    }
    figure = draw_simulator({"metrics": metrics})
    assert [axes.get_title() for axes in figure.axes] == ["100 replicas", "1000 replicas"]
    assert {text.get_text() for text in figure.axes[0].texts} >= {"flora", "power of two"}
