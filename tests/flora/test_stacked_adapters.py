"""What is trained, what is frozen, what is saved, for one adapter and for several."""

import numpy as np
import pytest
import torch

from contracts.errors import InvalidRequest
from flora.adapter_files import tensor_name
from flora.linear import linear_modules
from flora.stacked_adapters import StackedAdapters
from flora.stacked_linear import StackedLinear
from tests.flora.models import make_model

ATTENTION = "model.layers.1.self_attn"


@pytest.mark.parametrize("tie_inputs", [True, False])
def test_only_the_adapters_are_trained(tie_inputs: bool) -> None:
    model = make_model()
    names = list(linear_modules(model))
    stack = StackedAdapters(model, 3, 2, tie_inputs=tie_inputs)
    trained = [p for p in model.parameters() if p.requires_grad]
    assert {id(p) for p in trained} == {id(p) for p in stack.parameters.values()}
    assert 3 * stack.num_parameters == sum(p.numel() for p in trained)
    assert set(stack.layers) == set(names)
    q, k = stack.layers[f"{ATTENTION}.q_proj"], stack.layers[f"{ATTENTION}.k_proj"]
    assert (q.flora_B is k.flora_B) == tie_inputs
    assert model.get_submodule(f"{ATTENTION}.q_proj") is q
    assert not isinstance(model.lm_head, StackedLinear)


@pytest.mark.parametrize("tie_inputs", [True, False])
def test_a_tied_input_is_saved_once(tie_inputs: bool) -> None:
    stack = StackedAdapters(make_model(), 1, 2, tie_inputs=tie_inputs)
    files = stack.to_files(0, "tiny", "a-b")
    assert (tensor_name(f"{ATTENTION}.k_proj", "B") in files.tensors) != tie_inputs
    assert len(files.tensors) == 2 * (7 + (4 if tie_inputs else 7))
    shared = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
    assert files.config.shared_inputs == (shared if tie_inputs else ())
    assert files.config.base_fingerprint == "a-b"
    assert all(tensor.dtype == np.float32 for tensor in files.tensors.values())


def test_each_adapter_is_saved_by_itself_and_all_begin_alike() -> None:
    stack = StackedAdapters(make_model(), 2, 2, seed=3)
    first, second = (stack.to_files(k, "tiny", "") for k in (0, 1))
    name = tensor_name(f"{ATTENTION}.q_proj", "A")
    assert all(np.array_equal(first.tensors[n], t) for n, t in second.tensors.items())
    alone = StackedAdapters(make_model(), 1, 2, seed=3).to_files(0, "tiny", "")
    assert all(np.array_equal(first.tensors[n], t) for n, t in alone.tensors.items())
    with torch.no_grad():
        stack.parameters[f"{ATTENTION}.q_proj.flora_A"][1] += 1
    assert np.array_equal(stack.to_files(0, "tiny", "").tensors[name], first.tensors[name])
    assert np.array_equal(stack.to_files(1, "tiny", "").tensors[name], first.tensors[name] + 1)


def test_packed_families_have_nothing_to_tie() -> None:
    files = StackedAdapters(make_model("gpt2"), 1, 1).to_files(0, "tiny", "")
    assert files.config.shared_inputs == ()
    assert files.config.target_modules == ("c_attn", "c_fc", "c_proj")


def test_a_set_without_its_first_module_is_still_tied() -> None:
    files = StackedAdapters(make_model(), 1, 1, ("k_proj", "v_proj")).to_files(0, "tiny", "")
    assert files.config.shared_inputs == (("k_proj", "v_proj"),)
    assert tensor_name(f"{ATTENTION}.k_proj", "B") in files.tensors
    with pytest.raises(InvalidRequest, match="no linear layer"):
        StackedAdapters(make_model(), 1, 1, ("proj",))


def test_numbers_are_put_back_where_they_were() -> None:
    stack, other = StackedAdapters(make_model(), 2, 1), StackedAdapters(make_model(), 2, 1)
    with torch.no_grad():
        for parameter in stack.parameters.values():
            parameter.normal_()
    other.load(stack.parameters)
    for name, parameter in stack.parameters.items():
        assert torch.equal(parameter, other.parameters[name])
    with pytest.raises(InvalidRequest, match="other adapters"):
        StackedAdapters(make_model(), 3, 1).load(stack.parameters)
