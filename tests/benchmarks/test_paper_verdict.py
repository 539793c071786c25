import pytest

from benchmarks.paper_plan import RANKS
from benchmarks.paper_plot import draw_paper
from benchmarks.paper_verdict import measured_ranks, verdict


def made_up() -> dict[str, float]:
    """fLoRA halves with every doubling of the rank, bmm LoRA stays, on one model."""
    metrics = {"llama3_8b_base_tokens_per_s": 100.0, "llama3_8b_crossover_rank_predicted": 2.5}
    for rank in RANKS:
        metrics[f"llama3_8b_r{rank}_flora_tokens_per_s"] = 96 / rank
        metrics[f"llama3_8b_r{rank}_bmm_tokens_per_s"] = 32.0
        metrics[f"llama3_8b_r{rank}_flora_8rps_ms_per_token"] = 10.0 * rank
        metrics[f"llama3_8b_r{rank}_bmm_8rps_ms_per_token"] = 25.0
    metrics["llama3_8b_64_adapters_base_tokens_per_s"] = 200.0
    metrics["llama3_8b_64_adapters_flora_tokens_per_s"] = 190.0
    metrics["llama3_8b_base_prefill_heavy_all_tokens_per_s"] = 800.0
    metrics["llama3_8b_r8_flora_prefill_heavy_all_tokens_per_s"] = 100.0
    return metrics


def test_the_crossover_is_where_the_curves_meet() -> None:
    assert measured_ranks(made_up()) == {"llama3_8b_crossover_rank_measured": pytest.approx(3)}
    never = {k: 96.0 if "flora" in k else v for k, v in made_up().items()}
    assert measured_ranks(never) == {}


def test_the_verdict_says_wins_and_losses() -> None:
    text = verdict(made_up() | measured_ranks(made_up()))
    for part in (
        "rank 1: fLoRA 0.96 of base, 3.00 times bmm LoRA",
        "rank 8: 0.38 times bmm LoRA",
        "measured (predicted): llama3-8b 3.0 (2.5)",
        "takes bmm LoRA 2.50 times as long",
        "0.95 with 64",
        "rank 8: 0.12 of base prefill-heavy",
    ):
        assert part in text
    assert verdict({}) == ""


def test_a_panel_for_each_model_and_rate() -> None:
    figure = draw_paper({"metrics": made_up() | measured_ranks(made_up())})
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["llama3-8b", "llama3-8b, 8 requests/s"]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["base model", "fLoRA", "bmm LoRA"]
