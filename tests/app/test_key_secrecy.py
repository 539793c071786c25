"""An API key appears in no log line, no metric and no answer, whatever happens to its request."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from adapter_cache.store import MemoryStore
from app.api_key import parse_key_text
from app.auth import KeyAuthoriser
from app.keyring import CachedKeyring, MemoryKeys
from contracts.access import Scope
from contracts.errors import StoreUnavailable
from tests.app.bodies import CHAT, TEXT
from tests.app.keys import Clock, draft, make_issuer
from tests.app.parts import make_client, make_door, publish

POSTED = ("/v1/chat/completions", "/v1/completions")
BODIES: list[dict[str, object]] = [CHAT, TEXT | {"model": "tiny:mine"}, {"model": 3}, {}]
READ = ("/v1/models", "/v1/models/tiny:mine", "/v1/adapters/mine", "/no")


@contextmanager
def everything_logged() -> Iterator[io.StringIO]:
    """All loggers, all levels, records in full with their tracebacks."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield text
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


class Broken(MemoryStore):
    """A bug, and an outage."""

    async def describe(self, *_: object) -> None:
        raise RuntimeError("a bug")

    async def page(self, *_: object) -> None:  # type: ignore[override]
        raise StoreUnavailable("down")


@pytest.mark.parametrize("store", [MemoryStore, Broken])
async def test_a_key_is_told_to_nobody(store: type[MemoryStore]) -> None:
    clock, keys, adapters = Clock(), MemoryKeys(), store()
    issuer = make_issuer(keys, clock)
    key, text = await issuer.create(draft("acme", Scope.ADMIN))
    narrow, narrow_text = await issuer.create(draft("acme", Scope.ADAPTERS_READ))
    secrets = [part[1] for part in map(parse_key_text, (text, narrow_text)) if part]
    ring = CachedKeyring(keys, ttl_s=3, stale_max_s=60, unix_clock=clock)
    door = make_door(store=adapters, auth=KeyAuthoriser(ring))
    await publish(adapters, "mine", key.tenant)
    told = []
    with everything_logged() as log:
        async with make_client(door) as client:
            for given in (text, narrow_text, text[:-1], text + "x", f"{text} {text}", "Bearer"):
                headers = {"authorization": f"Bearer {given}"}
                asked: list[tuple[str, str, dict[str, object] | None]] = [
                    ("POST", path, body) for path in POSTED for body in BODIES
                ]
                asked += [("GET", path, None) for path in READ]
                told += [
                    await client.request(method, path, json=body, headers=headers)
                    for method, path, body in asked
                ]
            metrics = await client.get("/metrics", headers={"authorization": f"Bearer {text}"})
    seen = "".join([log.getvalue(), *(f"{a.text}{dict(a.headers)}" for a in [*told, metrics])])
    assert metrics.status_code == 200
    assert {answer.status_code for answer in told} >= {200, 400, 401, 403, 404}
    assert log.getvalue()
    assert [secret for secret in secrets if secret in seen] == []
    assert not any(
        secret in repr([key, narrow, ring, keys, issuer, door.auth]) for secret in secrets
    )
