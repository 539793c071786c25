import dataclasses
import pickle

import pytest

from contracts.adapters import BASE
from contracts.errors import EngineFailed
from contracts.generation import GenerateRequest, Sampling, TokenBatch, TokenDelta, TokenLogprob
from contracts.replica import ReplicaInfo

VALUES = [
    Sampling(max_tokens=4, stop=("\n",), logit_bias=((5, -1.0),)),
    GenerateRequest("r1", BASE, (1, 2), Sampling(max_tokens=4)),
    TokenBatch((TokenDelta(0, token_ids=(7,), logprobs=(TokenLogprob(7, "a", -0.5),)),)),
    ReplicaInfo("base", 2048, 49152, 32, "{}"),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_messages_are_frozen_hashable_and_pickle_equal(
    value: Sampling | GenerateRequest | TokenBatch | ReplicaInfo,
) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, dataclasses.fields(value)[0].name, None)
    assert len({value, pickle.loads(pickle.dumps(value))}) == 1


def test_a_failed_request_carries_its_error_across_a_process() -> None:
    batch = TokenBatch((TokenDelta(3, error=EngineFailed("dropped", "prompt")),))
    (delta,) = pickle.loads(pickle.dumps(batch)).deltas
    assert delta.index == 3
    assert isinstance(delta.error, EngineFailed)
    assert (delta.error.message, delta.error.param) == ("dropped", "prompt")
