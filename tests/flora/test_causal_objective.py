"""Losses from the logits of the targets alone against those of a whole forward pass."""

import pytest
import torch

from flora.causal_objective import CausalObjective
from flora.train_data import Example, collate
from tests.flora.learning import make_examples
from tests.flora.models import VOCAB_SIZE, make_model


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_bigcode"])
def test_loss_by_chosen_logits_equals_the_whole(kind: str) -> None:
    model, examples, objective = make_model(kind), make_examples(), CausalObjective()
    batch = collate(examples)
    with torch.no_grad():
        sums = objective.loss_sums(model, examples)
        whole = model(input_ids=batch.input_ids, labels=batch.labels).loss
        for i, example in enumerate(examples):
            one = collate([example])
            mean = model(input_ids=one.input_ids, labels=one.labels).loss
            assert sums[i] / objective.num_targets(example) == pytest.approx(mean.item(), rel=1e-4)
    num_targets = sum(map(objective.num_targets, examples))
    torch.testing.assert_close(sums.sum() / num_targets, whole, rtol=1e-5, atol=1e-5)


def test_the_model_is_left_as_it_was() -> None:
    model, examples = make_model(), make_examples()
    CausalObjective().loss_sums(model, examples)
    ids = collate(examples).input_ids
    assert model(input_ids=ids).logits.shape == (*ids.shape, VOCAB_SIZE)


def test_the_first_token_is_never_a_target() -> None:
    example = Example((1, 2, 3), (True, False, True))
    assert CausalObjective().num_targets(example) == 1
    assert CausalObjective().num_tokens(example) == 3
