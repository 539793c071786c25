"""What is trained, what is frozen, what is saved."""

import numpy as np
import pytest

from contracts.errors import InvalidRequest
from flora.adapter_files import tensor_name
from flora.linear import FloraLinear, linear_modules
from flora.trainable_adapter import TrainableAdapter
from tests.flora.models import make_model

ATTENTION = "model.layers.1.self_attn"


@pytest.mark.parametrize("tie_inputs", [True, False])
def test_only_the_adapter_is_trained(tie_inputs: bool) -> None:
    model = make_model()
    names = list(linear_modules(model))
    adapter = TrainableAdapter(model, 2, (), tie_inputs, seed=0)
    trained = [p for p in model.parameters() if p.requires_grad]
    assert {id(p) for p in trained} == {id(p) for p in adapter.parameters}
    assert adapter.num_parameters == sum(p.numel() for p in trained)
    assert set(adapter.layers) == set(names)
    q, k = adapter.layers[f"{ATTENTION}.q_proj"], adapter.layers[f"{ATTENTION}.k_proj"]
    assert (q.flora_B is k.flora_B) == tie_inputs
    assert model.get_submodule(f"{ATTENTION}.q_proj") is q
    assert not isinstance(model.lm_head, FloraLinear)


@pytest.mark.parametrize("tie_inputs", [True, False])
def test_a_tied_input_is_saved_once(tie_inputs: bool) -> None:
    files = TrainableAdapter(make_model(), 2, (), tie_inputs, seed=0).to_files("tiny", "a-b")
    assert (tensor_name(f"{ATTENTION}.k_proj", "B") in files.tensors) != tie_inputs
    assert len(files.tensors) == 2 * (7 + (4 if tie_inputs else 7))
    shared = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
    assert files.config.shared_inputs == (shared if tie_inputs else ())
    assert files.config.base_fingerprint == "a-b"
    assert all(tensor.dtype == np.float32 for tensor in files.tensors.values())


def test_packed_families_have_nothing_to_tie() -> None:
    files = TrainableAdapter(make_model("gpt2"), 1, (), True, seed=0).to_files("tiny", "")
    assert files.config.shared_inputs == ()
    assert files.config.target_modules == ("c_attn", "c_fc", "c_proj")


def test_a_set_without_its_first_module_is_still_tied() -> None:
    adapter = TrainableAdapter(make_model(), 1, ("k_proj", "v_proj"), True, seed=0)
    files = adapter.to_files("tiny", "")
    assert files.config.shared_inputs == (("k_proj", "v_proj"),)
    assert tensor_name(f"{ATTENTION}.k_proj", "B") in files.tensors
    with pytest.raises(InvalidRequest, match="no linear layer"):
        TrainableAdapter(make_model(), 1, ("proj",), True, seed=0)
