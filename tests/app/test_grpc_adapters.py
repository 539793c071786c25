"""Uploads in chunks and everything else that can be done with adapters, over a real socket."""

import asyncio
from collections.abc import AsyncIterator, Iterable

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapter_cache.store import MemoryStore
from app.door import DoorLimits
from app.grpc_adapters import publish as publish_parts
from app.protos.flora.v1 import flora_pb2 as pb
from contracts.access import LOCAL_CALLER
from contracts.adapters import DEFAULT_TENANT
from contracts.errors import CallerError
from flora.adapter_config import AdapterLimits
from tests.app.grpc_parts import ask, call, code_of, failure, grpc_channel, refusal, upload
from tests.app.parts import CountingReplica, make_door, publish
from tests.flora.adapters import make_bytes

WEIGHTS, CONFIG = make_bytes()
INVALID = grpc.StatusCode.INVALID_ARGUMENT


def header(name: str = "mine") -> pb.PublishAdapterRequest:
    return pb.PublishAdapterRequest(header=pb.PublishHeader(name=name))


def weights(chunk: bytes = WEIGHTS) -> pb.PublishAdapterRequest:
    return pb.PublishAdapterRequest(weights=chunk)


def config(chunk: bytes = CONFIG) -> pb.PublishAdapterRequest:
    return pb.PublishAdapterRequest(config=chunk)


async def test_an_upload_in_chunks_is_published_and_answers_at_once() -> None:
    store = MemoryStore()
    async with grpc_channel(make_door(store=store)) as channel:
        made = (await call(channel, "PublishAdapter", upload("mine", WEIGHTS, CONFIG, 7))).adapter
        assert (made.model, made.name, made.version, made.rank) == ("tiny:mine", "mine", 1, 1)
        again = await call(channel, "PublishAdapter", upload("mine", WEIGHTS, CONFIG))
        assert again.adapter == made
        answer = await call(channel, "Generate", ask(model=made.model, max_tokens=1))
    assert answer.choices[0].text == "mine0 "
    assert answer.adapter.digest == made.digest
    blob = await store.fetch(made.digest)
    assert blob is not None
    assert len(blob) == made.size_bytes


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ([], "invalid_request"),
        ([header()], "invalid_adapter"),
        ([weights()], "invalid_request"),
        ([pb.PublishAdapterRequest()], "invalid_request"),
        ([header(), header()], "invalid_request"),
        ([header(), pb.PublishAdapterRequest()], "invalid_request"),
        ([header(), weights(), config()], "invalid_adapter"),
        ([header("../up"), config(), weights()], "invalid_request"),
        ([header(""), config(), weights()], "invalid_request"),
        ([header(), config(), weights(WEIGHTS[:-1])], "invalid_adapter"),
        ([header(), config(b"{"), weights()], "invalid_adapter"),
        ([header(), config(b"x" * 2000), weights()], "adapter_too_large"),
        ([header(), config(), weights(), weights(b"x" * 9000)], "adapter_too_large"),
    ],
)
async def test_a_bad_upload_is_refused_and_nothing_is_published(
    parts: list[pb.PublishAdapterRequest], code: str
) -> None:
    store = MemoryStore()
    small = DoorLimits(
        adapter=AdapterLimits(max_file_bytes=len(WEIGHTS) + 4000, max_config_bytes=1000)
    )
    door = make_door(store=store, limits=small)
    async with grpc_channel(door) as channel:
        error = await refusal(lambda: call(channel, "PublishAdapter", iter(parts)))
    assert (error.code(), code_of(error)) == (INVALID, code)
    assert await store.versions(DEFAULT_TENANT, "mine") == []
    assert door.uploads.num_taken == 0


PARTS = st.one_of(
    st.sampled_from([header(), header("other"), config(), weights(), pb.PublishAdapterRequest()]),
    st.binary(max_size=64).map(weights),
    st.binary(max_size=64).map(config),
    st.integers(0, len(WEIGHTS)).map(lambda at: weights(WEIGHTS[:at])),
    st.integers(0, len(WEIGHTS)).map(lambda at: weights(WEIGHTS[at:])),
)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(PARTS, max_size=6), st.booleans())
def test_any_stream_of_parts_is_an_adapter_or_the_callers_fault(
    parts: list[pb.PublishAdapterRequest], with_header: bool
) -> None:
    if with_header:
        parts = [header(), *parts]
    asyncio.run(upload_any(parts))


async def upload_any(parts: list[pb.PublishAdapterRequest]) -> None:
    store = MemoryStore()
    door = make_door(store=store)
    sent = b"".join(part.weights for part in parts)
    sent_config = b"".join(part.config for part in parts)
    try:
        made = await publish_parts(door, LOCAL_CALLER, each(parts))
    except CallerError:
        assert parts not in (
            [header(), config(), weights()],
            [header("other"), config(), weights()],
        )
        assert await store.versions(DEFAULT_TENANT, "mine") == []
    else:
        assert (sent, sent_config, made.adapter.version) == (WEIGHTS, CONFIG, 1)
    assert door.uploads.num_taken == 0
    door.models["tiny"].prompts.close()


async def each(
    parts: Iterable[pb.PublishAdapterRequest],
) -> AsyncIterator[pb.PublishAdapterRequest]:
    for part in parts:
        yield part


class Broken:
    """What Ray Serve makes of a client that has gone: an end like any other."""

    def __init__(self, parts: Iterable[pb.PublishAdapterRequest]) -> None:
        self._parts = iter(parts)

    def __aiter__(self) -> "Broken":
        return self

    async def __anext__(self) -> pb.PublishAdapterRequest:
        part = next(self._parts, None)
        if part is None:
            raise StopAsyncIteration
        return part

    def is_cancelled(self) -> bool:
        return True


async def test_an_upload_that_was_broken_off_is_not_published() -> None:
    store = MemoryStore()
    with pytest.raises(CallerError, match="broken off"):
        await publish_parts(
            make_door(store=store), LOCAL_CALLER, Broken([header(), config(), weights()])
        )
    assert await store.versions(DEFAULT_TENANT, "mine") == []


async def test_slow_uploads_hold_their_places_for_a_while_only() -> None:
    door = make_door(limits=DoorLimits(max_parallel_uploads=1, request_timeout_s=0.5))

    async def slow() -> AsyncIterator[pb.PublishAdapterRequest]:
        yield header()
        await asyncio.sleep(20)

    async with grpc_channel(door) as channel:
        waiting = [call(channel, "PublishAdapter", slow()) for _ in range(16)]
        async with asyncio.timeout(5):
            while door.uploads.num_taken < 16:  # noqa: ASYNC110 (nothing to wait for)
                await asyncio.sleep(0.01)
        refused = await refusal(lambda: call(channel, "PublishAdapter", slow()))
        assert (refused.code(), code_of(refused)) == (grpc.StatusCode.UNAVAILABLE, "overloaded")
        errors = await asyncio.gather(*(failure(running) for running in waiting))
        assert {error.code() for error in errors} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        assert door.uploads.num_taken == 0


async def test_pages_go_through_all_names_in_order() -> None:
    store = MemoryStore()
    for name in ("c", "a", "b"):
        await publish(store, name)
    async with grpc_channel(make_door(store=store)) as channel:
        token, names = "", []
        while True:
            page = await call(
                channel, "ListAdapters", pb.ListAdaptersRequest(page_size=2, page_token=token)
            )
            names += [adapter.name for adapter in page.adapters]
            token = page.next_page_token
            if not token:
                break
        assert names == ["a", "b", "c"]
        whole = await call(channel, "ListAdapters", pb.ListAdaptersRequest())
        assert [adapter.name for adapter in whole.adapters] == names
        for bad in (pb.ListAdaptersRequest(page_size=1001), pb.ListAdaptersRequest(page_token="/")):
            assert (await failure(call(channel, "ListAdapters", bad))).code() == INVALID


async def test_versions_are_shown_rolled_back_pinned_and_deleted() -> None:
    store, replica = MemoryStore(), CountingReplica()
    first, second = [await publish(store, "mine", seed=seed) for seed in (1, 2)]
    async with grpc_channel(make_door(replica, store)) as channel:
        await call(channel, "PinAdapter", pb.PinAdapterRequest(name="mine", version=1))
        shown = await call(channel, "GetAdapter", pb.GetAdapterRequest(name="mine"))
        assert shown.adapter.digest == second.key.digest
        kept = [(version.adapter.version, version.pinned) for version in shown.versions]
        assert kept == [(1, True), (2, False)]
        await call(channel, "UnpinAdapter", pb.UnpinAdapterRequest(name="mine", version=1))
        back = await call(channel, "RollbackAdapter", pb.RollbackAdapterRequest(name="mine"))
        assert (back.adapter.version, back.adapter.digest) == (3, first.key.digest)
        told = await call(channel, "PrefetchAdapter", pb.PrefetchAdapterRequest(name="mine"))
        assert told.adapter == back.adapter
        shown = await call(channel, "GetAdapter", pb.GetAdapterRequest(name="mine"))
        assert [version.pinned for version in shown.versions] == [False] * 3
        await call(channel, "DeleteAdapter", pb.DeleteAdapterRequest(name="mine"))
        assert await store.versions(DEFAULT_TENANT, "mine") == []
    assert [keys[0].digest for keys in replica.prefetched] == [first.key.digest]


VERSIONED = ["RollbackAdapter", "PrefetchAdapter", "PinAdapter", "UnpinAdapter"]


@pytest.mark.parametrize("method", [*VERSIONED, "GetAdapter", "DeleteAdapter"])
async def test_a_name_that_is_not_there_and_one_that_cannot_be_look_alike(method: str) -> None:
    request = getattr(pb, f"{method}Request")
    async with grpc_channel(make_door()) as channel:
        for name in ("nobody", "../x", "", "x" * 200):
            error = await failure(call(channel, method, request(name=name)))
            assert (error.code(), code_of(error)) == (grpc.StatusCode.NOT_FOUND, "model_not_found")


@pytest.mark.parametrize("method", VERSIONED)
async def test_versions_are_bounded_numbers(method: str) -> None:
    store = MemoryStore()
    await publish(store, "mine")
    request = getattr(pb, f"{method}Request")
    async with grpc_channel(make_door(store=store)) as channel:
        for version in (0, 2**32 - 1):
            error = await failure(call(channel, method, request(name="mine", version=version)))
            assert (error.code(), code_of(error)) == (INVALID, "invalid_request")
        absent = await failure(call(channel, method, request(name="mine", version=7)))
        assert absent.code() == grpc.StatusCode.NOT_FOUND
        if method == "RollbackAdapter":
            only = await failure(call(channel, method, request(name="mine")))
            assert only.code() == INVALID
