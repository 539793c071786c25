"""Which layers read one input, found on three families."""

import pytest

from flora.linear import linear_modules
from flora.shared_inputs import find_shared_inputs
from tests.flora.models import make_model

LEAVES: dict[str, list[tuple[str, ...]]] = {
    "llama": [
        ("q_proj", "k_proj", "v_proj"),
        ("o_proj",),
        ("gate_proj", "up_proj"),
        ("down_proj",),
    ],
    "gpt2": [("c_attn",), ("c_proj",), ("c_fc",), ("c_proj",)],
    "gpt_bigcode": [("c_attn",), ("c_proj",), ("c_fc",), ("c_proj",)],
}


@pytest.mark.parametrize("kind", list(LEAVES))
def test_siblings(kind: str) -> None:
    model = make_model(kind)
    sets = find_shared_inputs(model)
    assert [tuple(n.rpartition(".")[2] for n in names) for names in sets] == LEAVES[kind] * 2
    assert [name for names in sets for name in names] == list(linear_modules(model))
    assert not any(module._forward_pre_hooks for module in model.modules())
