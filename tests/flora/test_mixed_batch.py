"""Cutting a batch into pieces loses nothing, and no adapter's loss knows of the others."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flora.causal_objective import CausalObjective
from flora.mixed_batch import MixedBatch, adapter_losses
from flora.stacked_adapters import StackedAdapters
from tests.flora.learning import make_examples
from tests.flora.models import make_model


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(1, 60))
def test_pieces_hold_everything_within_the_bound(lengths: list[int], max_tokens: int) -> None:
    batch = MixedBatch(tuple(range(len(lengths))), tuple(lengths))
    pieces = list(batch.pieces(lambda length: length, max_tokens))
    assert sorted(k for piece in pieces for k in piece.adapters) == list(range(len(lengths)))
    for piece in pieces:
        assert [lengths[k] for k in piece.adapters] == list(piece.examples)
        padded = len(piece.examples) * max(piece.examples)
        assert padded <= max_tokens or len(piece.examples) == 1


@pytest.mark.parametrize("max_tokens", [1, 40, 1000])
def test_losses_and_gradients_are_means_over_each_adapters_own_targets(max_tokens: int) -> None:
    examples = make_examples(count=6)
    batch = MixedBatch((0, 2, 0, 2, 2, 0), tuple(examples))
    model, objective = make_model(), CausalObjective()
    stack = StackedAdapters(model, 3, 2)
    with torch.no_grad():
        for parameter in stack.parameters.values():
            parameter.add_(torch.randn(parameter.shape[1:], generator=torch.Generator()) * 0.1)
    losses = adapter_losses(model, stack, objective, batch, max_tokens, torch.autograd.backward)
    for k in (0, 2):
        own = [e for e, adapter in zip(examples, batch.adapters, strict=True) if adapter == k]
        alone_model = make_model()
        alone = StackedAdapters(alone_model, 1, 2)
        alone.load({n: p[k : k + 1] for n, p in stack.parameters.items()})
        alone.select([0] * len(own))
        num_targets = sum(map(objective.num_targets, own))
        loss = objective.loss_sums(alone_model, own).sum() / num_targets
        torch.autograd.backward(loss)
        torch.testing.assert_close(losses[k], loss.detach(), rtol=1e-4, atol=1e-5)
        for name, parameter in stack.parameters.items():
            assert parameter.grad is not None
            expected = alone.parameters[name].grad
            assert expected is not None
            torch.testing.assert_close(parameter.grad[k], expected[0], rtol=1e-3, atol=1e-5)
            assert not parameter.grad[1].any()
    assert losses[1] == 0
