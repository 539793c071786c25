"""Which siblings are tied, found and named."""

import pytest
from torch import nn

from flora.peft import FloraConfig
from flora.peft.input_sets import find_input_sets, is_certain
from tests.flora.models import make_model
from tests.flora.peft.tuned import add_random, make_tuned
from tests.flora.speech.models import make_whisper

ATTENTION = "model.layers.1.self_attn"
SIBLINGS = [["q_proj", "k_proj", "v_proj"], ["gate_proj", "up_proj"]]


class Pair(nn.Module):
    """Two layers of one input, in a model that transformers does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(4, 4), nn.Linear(4, 4)


def test_a_forward_pass_finds_siblings_and_the_config_names_them() -> None:
    config = FloraConfig()
    model = make_model()
    model.train()
    traced = find_input_sets(model, config)
    assert model.training
    assert config.shared_inputs == SIBLINGS
    assert traced[f"{ATTENTION}.k_proj"] == traced[f"{ATTENTION}.q_proj"]
    assert traced[f"{ATTENTION}.o_proj"] != traced[f"{ATTENTION}.q_proj"]
    named = find_input_sets(model, FloraConfig(shared_inputs=SIBLINGS))
    for name in named:
        assert {n for n in named if named[n] == named[name]} == {
            n for n in traced if traced[n] == traced[name]
        }


def test_layers_that_are_tuned_already_are_seen_as_before() -> None:
    model = make_tuned(tie_inputs=False)
    config = FloraConfig()
    assert find_input_sets(model.get_base_model(), config) == find_input_sets(
        make_model(), FloraConfig()
    )
    add_random(model, "tied")
    q, v = (model.get_submodule(f"base_model.model.{ATTENTION}.{n}_proj") for n in "qv")
    assert q.flora_B["tied"] is v.flora_B["tied"]
    assert q.flora_B["default"] is not v.flora_B["default"]


def test_a_model_that_listens_ties_what_reads_one_input() -> None:
    """Names alone cannot say so: q reads what k reads in self-attention, not in the other."""
    listening = make_whisper()
    shared = [["k_proj", "v_proj", "q_proj"], ["k_proj", "v_proj"]]
    for config in (FloraConfig(), FloraConfig(shared_inputs=shared)):
        sets = find_input_sets(listening, config)
        own, cross = (f"model.decoder.layers.0.{part}_attn" for part in ("self", "encoder"))
        assert sets[f"{own}.q_proj"] == sets[f"{own}.k_proj"]
        assert sets[f"{cross}.k_proj"] == sets[f"{cross}.v_proj"] != sets[f"{cross}.q_proj"]
        assert config.shared_inputs == shared


def test_packed_and_foreign_models() -> None:
    config = FloraConfig()
    find_input_sets(make_model("gpt2"), config)
    assert config.shared_inputs == []
    assert find_input_sets(Pair(), FloraConfig()) == {}
    named = find_input_sets(Pair(), FloraConfig(shared_inputs=[["left", "right"]]))
    assert named["left"] == named["right"]
    assert find_input_sets(Pair(), FloraConfig(tie_inputs=False, shared_inputs=[["left"]])) == {}


def test_names_in_two_sets_are_traced_anew_or_refused() -> None:
    twice = [["q_proj", "k_proj", "v_proj"], ["k_proj", "v_proj"]]
    assert not is_certain(twice)
    config = FloraConfig(shared_inputs=twice)
    assert find_input_sets(make_model(), config)
    assert config.shared_inputs == SIBLINGS
    with pytest.raises(ValueError, match="in two sets"):
        find_input_sets(Pair(), FloraConfig(shared_inputs=[["left", "right"], ["left"]]))


def test_a_model_that_does_not_run_is_left_untied(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    monkeypatch.setattr(model, "forward", lambda: None)
    with pytest.warns(UserWarning, match="name siblings that read one input in shared_inputs"):
        assert find_input_sets(model, FloraConfig()) == {}
