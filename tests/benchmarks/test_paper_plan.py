import pytest

from benchmarks.paper_models import MODELS
from benchmarks.paper_plan import (
    EXPERIMENTS,
    LORA_RANKS,
    METHODS,
    RANKS,
    SCALES,
    Cell,
    Load,
    Scale,
    Setup,
    plan,
    stem,
)


@pytest.fixture(params=SCALES.values(), ids=list(SCALES))
def scale(request: pytest.FixtureRequest) -> Scale:
    found: Scale = request.param
    return found


def everything(scale: Scale) -> list[Cell]:
    return plan(scale, list(EXPERIMENTS), (), METHODS)


def test_every_number_has_a_name_of_its_own(scale: Scale) -> None:
    names = [cell.metric for cell in everything(scale)]
    assert len(names) == len(set(names))


def test_throughput_has_every_model_and_rank(scale: Scale) -> None:
    names = {cell.metric for cell in plan(scale, ["throughput"], (), METHODS)}
    expected = set()
    for model in MODELS:
        key = model.replace("-", "_")
        ranks = {"flora": RANKS, "bmm": RANKS, "lora": LORA_RANKS}
        expected |= {f"{key}_r{r}_{m}_tokens_per_s" for m in ranks for r in ranks[m]}
        expected.add(f"{key}_base_tokens_per_s")
    assert names == expected


def test_engines_fit_what_is_asked_of_them(scale: Scale) -> None:
    for cell in everything(scale):
        setup, load = cell.setup, cell.load
        assert (setup.rank == 0) == (setup.method == "base") == (load.ranks == (0,))
        assert max(load.ranks) <= setup.rank
        assert load.num_adapters % len(load.ranks) == 0
        slots = scale.num_slots(setup, load.num_adapters)
        assert slots >= setup.num_seqs
        assert setup.method != "lora" or setup.rank in LORA_RANKS
        if load.lengths is not None:
            assert sum(load.lengths) <= scale.positions
            assert min(load.lengths) > 0
        assert 2000 // scale.length_divisor <= scale.positions


def test_many_adapters_have_a_slot_each_and_memory_bounds_the_rest(scale: Scale) -> None:
    for cell in plan(scale, ["adapters"], (), METHODS):
        most = cell.load.num_adapters
        assert scale.num_slots(cell.setup, most) >= min(most, cell.load.num_requests)
    high = Setup("llama2-13b", "flora", 16, scale.num_seqs)
    assert scale.num_slots(high, 10**6) < max(scale.max_slots, scale.num_seqs) + 1


def test_models_and_methods_select(scale: Scale) -> None:
    cells = plan(scale, ["latency", "parallel"], ["llama2-7b", "starcoder-1b"], ["base", "flora"])
    assert {cell.setup.method for cell in cells} == {"base", "flora"}
    halves = [cell for cell in cells if cell.setup.num_devices == 2]
    assert {cell.setup.model for cell in halves} == {"llama2-7b"}
    assert {cell.setup.model for cell in cells} == {"llama2-7b", "starcoder-1b"}
    assert scale.model(halves[0].setup).num_devices == 2


def test_a_cell_is_named_after_model_rank_and_method() -> None:
    setup = Setup("starcoder-1b", "bmm", 4, 8)
    assert stem(setup) == "starcoder_1b_r4_bmm"
    cell = Cell(stem(setup), "tokens_per_s", setup, Load(1, 1, (4,)))
    assert cell.metric == "starcoder_1b_r4_bmm_tokens_per_s"
