"""The way to a replica in the same process, and the translation of Ray's errors."""

import pickle

import pytest
from ray.exceptions import ActorDiedError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException

from app.dispatcher import LocalDispatcher
from app.ray_dispatcher import translate
from contracts.adapters import BASE, AdapterKey, Digest, TenantId
from contracts.errors import (
    EngineFailed,
    NotReady,
    Overloaded,
    PromptTooLong,
    ServingError,
    StoreUnavailable,
)
from contracts.generation import GenerateRequest, Sampling
from tests.app.parts import BASE as MODEL
from tests.app.parts import CountingReplica


def make_request(adapter: AdapterKey = BASE) -> GenerateRequest:
    return GenerateRequest("r", adapter, (1,), Sampling(2))


async def test_it_streams_cancels_and_describes() -> None:
    replica = CountingReplica()
    dispatcher = LocalDispatcher(replica)
    texts = [d.text async for b in dispatcher.generate((make_request(),)) for d in b.deltas]
    assert texts == ["base0 ", "base1 "]
    await dispatcher.cancel(("r",))
    assert replica.cancelled == {"r"}
    assert (await dispatcher.describe()).model == MODEL


async def test_a_replica_that_breaks_is_an_engine_failure() -> None:
    key = AdapterKey(TenantId("t"), "crash", 1, Digest("d"), 1)
    with pytest.raises(EngineFailed, match="RuntimeError") as failed:
        [batch async for batch in LocalDispatcher(CountingReplica()).generate((make_request(key),))]
    assert "cuda" not in str(failed.value)


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (RayTaskError("f", "trace", PromptTooLong("x")), PromptTooLong),
        (RayTaskError("f", "trace", StoreUnavailable("x")), StoreUnavailable),
        (RayTaskError("f", "trace", ValueError("secret")), EngineFailed),
        (BackPressureError(num_queued_requests=1, max_queued_requests=1), Overloaded),
        (DeploymentUnavailableError("replica"), NotReady),
        (ActorDiedError(), EngineFailed),
        (RayServeException("x"), EngineFailed),
        (OSError("x"), EngineFailed),
    ],
)
def test_rays_errors_become_ours(error: Exception, ours: type[ServingError]) -> None:
    translated = translate(error)
    assert type(translated) is ours
    assert "secret" not in str(translated)
    assert str(pickle.loads(pickle.dumps(translated))) == str(translated)
