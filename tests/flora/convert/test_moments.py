import pytest
import torch

from flora.convert import moments
from flora.convert.dialogues import Dialogue
from flora.convert.moments import input_moments
from tests.flora.models import make_model

MODULES = ["model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"]
DIALOGUES = [Dialogue(tuple(range(3, 3 + n)), 1) for n in (4, 9, 6)]


def slow_moment(name: str) -> torch.Tensor:
    """One dialogue at a time, no padding, by the definition."""
    model, rows = make_model(), list[torch.Tensor]()
    model.get_submodule(name).register_forward_pre_hook(lambda m, x: rows.append(x[0][0]))
    with torch.no_grad():
        for dialogue in DIALOGUES:
            model(input_ids=torch.tensor([dialogue.token_ids]))
    x = torch.cat(rows).double()
    total = torch.stack([torch.outer(row, row) for row in x]).mean(0)
    return total + 0.01 * total.diagonal().median() * torch.eye(len(total))


@pytest.mark.parametrize("max_bytes", [1, 1 << 30])
def test_moments_are_means_over_tokens(max_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "_MAX_BYTES", max_bytes)
    found = dict(input_moments(make_model(), MODULES, DIALOGUES, batch_size=2))
    assert list(found) == MODULES
    for name, moment in found.items():
        torch.testing.assert_close(moment, slow_moment(name), rtol=1e-4, atol=1e-6)
