"""Every RPC of the descriptor against every kind of caller."""

from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import grpc
import pytest
from google.protobuf.message_factory import GetMessageClass
from ray.serve.grpc_util import RayServegRPCContext

from adapter_cache.store import MemoryStore
from app.auth import KeyAuthoriser
from app.grpc_services import SERVICES
from app.protos.flora.v1 import flora_pb2 as pb
from contracts.access import Caller, Scope
from contracts.adapters import TenantId
from tests.app.grpc_parts import (
    METHODS,
    Servicer,
    ask,
    call,
    code_of,
    failure,
    grpc_channel,
    refusal,
    upload,
)
from tests.app.parts import CountingReplica, make_door, publish
from tests.flora.adapters import make_bytes

OWNER, OTHER = TenantId("owner"), TenantId("other")
SCOPES = {
    "Generate": Scope.GENERATE,
    "GenerateStream": Scope.GENERATE,
    "PublishAdapter": Scope.ADAPTERS_WRITE,
    "ListAdapters": Scope.ADAPTERS_READ,
    "GetAdapter": Scope.ADAPTERS_READ,
    "RollbackAdapter": Scope.ADAPTERS_WRITE,
    "DeleteAdapter": Scope.ADAPTERS_WRITE,
    "PrefetchAdapter": Scope.ADAPTERS_WRITE,
    "PinAdapter": Scope.ADAPTERS_WRITE,
    "UnpinAdapter": Scope.ADAPTERS_WRITE,
}
"""What a key needs for each RPC; one that is not here would be open to everybody."""

OPEN = {"Check", "List", "Watch"}
PUBLIC_ERRORS = {"no key": None, "nonsense": "nonsense", "expired": "expired", "revoked": "revoked"}
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED


class Keys:
    """A keyring as the store's: it has no caller for a key that is expired or revoked."""

    async def find(self, secret: str) -> Caller | None:
        kind, _, rest = secret.partition("/")
        if kind == "all":
            return Caller("k1", TenantId(rest), frozenset(Scope) - {Scope.ADMIN})
        if kind == "but":
            return Caller("k2", OWNER, frozenset(Scope) - {Scope.ADMIN, Scope(rest)})
        if kind == "listed":
            scopes = frozenset(Scope) - {Scope.ADMIN}
            return Caller("k3", OWNER, scopes, frozenset({rest}))
        return None


class NoStore(MemoryStore):
    """Fails the test where anything is looked up."""

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_"):
            raise AssertionError(f"{name} was looked up")
        return super().__getattribute__(name)


def request_of(name: str) -> Any:
    if name in ("Generate", "GenerateStream"):
        return ask(model="tiny:mine")
    if name == "PublishAdapter":
        return upload("mine", *make_bytes())
    if name == "ListAdapters":
        return pb.ListAdaptersRequest()
    return GetMessageClass(METHODS[name].input_type)(name="mine")


def test_the_table_has_every_rpc_of_the_descriptor_and_no_other() -> None:
    names = [method.name for service in SERVICES for method in service.methods]
    assert len(names) == len(set(names)), "Ray Serve knows a method by its last name alone"
    assert set(names) == set(SCOPES) | OPEN


@pytest.mark.parametrize("name", SCOPES)
@pytest.mark.parametrize("kind", PUBLIC_ERRORS)
async def test_no_valid_key_no_answer_and_no_look_up(name: str, kind: str) -> None:
    replica = CountingReplica()
    door = make_door(replica, NoStore(), auth=KeyAuthoriser(Keys()))
    async with grpc_channel(door) as channel:
        error = await refusal(
            lambda: call(channel, name, request_of(name), PUBLIC_ERRORS[kind] or "")
        )
    assert (error.code(), code_of(error)) == (UNAUTHENTICATED, "invalid_api_key")
    assert not replica.groups


@pytest.mark.parametrize("name", SCOPES)
async def test_a_key_without_the_scope_is_refused_before_any_look_up(name: str) -> None:
    door = make_door(store=NoStore(), auth=KeyAuthoriser(Keys()))
    async with grpc_channel(door) as channel:
        error = await refusal(
            lambda: call(channel, name, request_of(name), f"but/{SCOPES[name].value}")
        )
    assert (error.code(), code_of(error)) == (
        grpc.StatusCode.PERMISSION_DENIED,
        "insufficient_scope",
    )


@pytest.mark.parametrize("name", SCOPES)
async def test_another_tenants_adapter_is_absent(name: str) -> None:
    store = MemoryStore()
    made = [await publish(store, "mine", OWNER, seed) for seed in (1, 2)]
    async with grpc_channel(make_door(store=store, auth=KeyAuthoriser(Keys()))) as channel:
        running = call(channel, name, request_of(name), f"all/{OTHER}")
        if name == "ListAdapters":
            assert not (await running).adapters
        elif name == "PublishAdapter":
            # A name is private to its tenant: this is another adapter.
            assert (await running).adapter.version == 1
        else:
            error = await failure(running)
            assert (error.code(), code_of(error)) == (grpc.StatusCode.NOT_FOUND, "model_not_found")
        absent = await refusal(
            lambda: call(channel, "Generate", ask(model="tiny:nobody"), f"all/{OTHER}")
        )
        if name == "Generate":
            assert error.details() == (absent.details() or "").replace("nobody", "mine")
    assert await store.versions(OWNER, "mine") == made
    assert not await store.pins(OWNER, "mine")


@pytest.mark.parametrize("name", SCOPES)
async def test_the_owners_key_works(name: str) -> None:
    store = MemoryStore()
    for seed in (1, 2):
        await publish(store, "mine", OWNER, seed)
    async with grpc_channel(make_door(store=store, auth=KeyAuthoriser(Keys()))) as channel:
        running = call(channel, name, request_of(name), f"all/{OWNER}")
        if name == "GenerateStream":
            messages = [message async for message in running]
            assert messages[0].adapter.name == "mine"
        else:
            assert await running is not None


@pytest.mark.parametrize("name", ["Generate", "GenerateStream"])
async def test_an_allow_list_hides_the_rest(name: str) -> None:
    store = MemoryStore()
    await publish(store, "mine", OWNER)
    door = make_door(store=store, auth=KeyAuthoriser(Keys()))
    async with grpc_channel(door) as channel:
        error = await refusal(lambda: call(channel, name, request_of(name), "listed/theirs"))
        assert code_of(error) == "model_not_found"
        assert await drain(call(channel, name, request_of(name), "listed/mine"))


async def drain(running: Any) -> bool:
    if isinstance(running, grpc.aio.UnaryStreamCall):
        return len([message async for message in running]) > 0
    return len((await running).choices) > 0


@pytest.mark.parametrize("name", sorted(OPEN))
async def test_health_needs_no_key_and_tells_no_more(name: str) -> None:
    async with grpc_channel(make_door(auth=KeyAuthoriser(Keys()))) as channel:
        request = GetMessageClass(METHODS[name].input_type)()
        running = call(channel, name, request)
        message = await running.read() if name == "Watch" else await running
        fields = {field.name for field, _ in message.ListFields()}
    assert fields <= {"status", "statuses"}


def refused(secret: str) -> Iterator[tuple[str, str]]:
    yield "authorization", f"Basic {secret}"
    yield "authorization", secret
    yield "authorization", "Bearer "
    yield "x-api-key", secret


@pytest.mark.parametrize("pair", list(refused("all/owner")))
async def test_only_a_bearer_key_counts(pair: tuple[str, str]) -> None:
    async with grpc_channel(make_door(auth=KeyAuthoriser(Keys()))) as channel:
        method = channel.unary_unary(
            "/flora.v1.Adapters/ListAdapters",
            request_serializer=pb.ListAdaptersRequest.SerializeToString,
            response_deserializer=pb.ListAdaptersResponse.FromString,
        )
        error = await failure(method(pb.ListAdaptersRequest(), metadata=[pair]))
    assert error.code() == UNAUTHENTICATED
    assert "all/owner" not in str(error)


async def test_ray_serves_context_gets_every_trailer_once() -> None:
    native = Mock()
    native.invocation_metadata.return_value = ()
    native.trailing_metadata.return_value = ()
    context = RayServegRPCContext(native)
    context.set_trailing_metadata([("request_id", "serve's own")])
    door = make_door(auth=KeyAuthoriser(Keys()))
    assert not (await Servicer(door).ListAdapters(pb.ListAdaptersRequest(), context)).adapters
    keys = [key for key, _ in context.trailing_metadata()]
    assert keys == ["request_id", "flora-error-code", "x-request-id"]
    assert context.code() == UNAUTHENTICATED
