"""`flora keys` on a real Valkey and a folder, and what a server makes of such keys."""

import asyncio
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapter_cache.config import CacheConfig
from adapter_cache.registry_guard import AlwaysWhole
from adapter_cache.valkey_server import ValkeyServer
from app import cli
from app.access_policy import make_authoriser
from app.cli_keys import seconds
from app.config import AuthSettings, Settings
from app.key_maintenance import require_some_key
from app.registry_rebuild import rebuild_now
from app.stores import open_stores
from contracts.access import Caller, Quota, Scope
from contracts.errors import InvalidRequest, NotReady, Unauthorized

_PREFIXES = itertools.count()


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with ValkeyServer.start(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def cache(valkey: ValkeyServer, tmp_path: Path) -> CacheConfig:
    return CacheConfig(
        redis_url=valkey.url,
        key_prefix=f"cli{next(_PREFIXES)}",
        object_store_url=f"file://{tmp_path}/objects",
    )


class Flora:
    """`flora keys` with the settings of one server."""

    def __init__(
        self,
        cache: CacheConfig,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self._cache, self._monkeypatch, self._capsys = cache, monkeypatch, capsys

    def run(self, *words: str) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        names = ("redis_url", "key_prefix", "object_store_url", "valkey_dir")
        given = [f"cache.{name}={getattr(self._cache, name)}" for name in names]
        options = [part for pair in given for part in ("--set", pair)]
        self._monkeypatch.setattr(sys, "argv", ["flora", "keys", *words, *options])
        with pytest.raises(SystemExit) as end:
            cli.main()
        told = self._capsys.readouterr()
        return int(end.value.code or 0), told.out, told.err

    def __call__(self, *words: str) -> str:
        code, out, err = self.run(*words)
        assert code == 0, err
        return out


@pytest.fixture
def flora(
    cache: CacheConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Flora:
    return Flora(cache, monkeypatch, capsys)


async def call(cache: CacheConfig, *texts: str) -> list[Caller | None]:
    """Who a server takes each key for."""
    stores = open_stores(cache)
    settings = Settings(cache=cache, auth=AuthSettings(required=True))
    door = make_authoriser(settings, stores, AlwaysWhole())
    found: list[Caller | None] = []
    for text in texts:
        try:
            found.append(await door.caller(f"Bearer {text}"))
        except Unauthorized:
            found.append(None)
    await stores.close()
    return found


async def empty_and_rebuild(cache: CacheConfig) -> None:
    stores = open_stores(cache)
    async with stores.clients.writing() as redis:
        await redis.flushall()
    await rebuild_now(stores)
    await stores.close()


@pytest.mark.redis
def test_a_key_is_made_used_rotated_and_revoked(flora: Flora, cache: CacheConfig) -> None:
    with pytest.raises(NotReady, match="flora keys create"):
        require_some_key(cache)
    old = flora("create", "--tenant", "acme", "--label", "ours").strip()
    [caller] = asyncio.run(call(cache, old))
    assert caller is not None
    assert (caller.tenant, caller.quota) == ("acme", Quota())
    assert caller.scopes == {Scope.GENERATE, Scope.ADAPTERS_READ, Scope.ADAPTERS_WRITE}
    require_some_key(cache)
    key_id = caller.key_id
    new = flora("rotate", key_id, "--grace", "1h").strip()
    assert asyncio.run(call(cache, old, new)) == [caller, caller]
    newest = flora("rotate", key_id, "--grace", "0s").strip()
    assert asyncio.run(call(cache, old, new, newest)) == [None, None, caller]
    assert flora("list") == f"{key_id}\tacme\tactive\tadapters:read,adapters:write,generate\tours\n"
    assert json.loads(flora("show", key_id))["num_secrets"] == 1
    assert flora("revoke", key_id) == f"revoked {key_id}\n"
    assert asyncio.run(call(cache, newest)) == [None]
    assert "\trevoked\t" in flora("list")
    with pytest.raises(NotReady):
        require_some_key(cache)


@pytest.mark.redis
def test_every_option_of_a_key_arrives(flora: Flora, cache: CacheConfig) -> None:
    told = json.loads(
        flora("create", "--scope", "generate", "--scope", "admin", "--adapter", "a",
              "--adapter", "acme/b", "--expires", "90d", "--requests-per-min", "1",
              "--tokens-per-min", "2", "--max-streams", "3", "--weight", "2.5", "--json")
    )  # fmt: skip
    [caller] = asyncio.run(call(cache, told["key"]))
    assert caller == Caller(
        told["key_id"],
        caller.tenant if caller else "",  # type: ignore[arg-type]
        frozenset({Scope.GENERATE, Scope.ADMIN}),
        frozenset({"a", "acme/b"}),
        Quota(1, 2, 3),
        2.5,
    )
    assert 89 * 86400 < told["expires_at_s"] - told["created_at_s"] < 91 * 86400
    [line] = flora("list", "--json").splitlines()
    assert "key" not in json.loads(line)
    assert told["key"].rpartition("-")[2] not in line


@pytest.mark.redis
def test_keys_outlive_an_emptied_redis(flora: Flora, cache: CacheConfig) -> None:
    kept, revoked = [json.loads(flora("create", "--json")) for _ in range(2)]
    flora("revoke", revoked["key_id"])
    asyncio.run(empty_and_rebuild(cache))
    found = asyncio.run(call(cache, kept["key"], revoked["key"]))
    assert [caller is not None for caller in found] == [True, False]


@pytest.mark.redis
def test_the_first_key_is_made_before_the_first_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    embedded = CacheConfig(valkey_dir=tmp_path / "valkey")
    text = Flora(embedded, monkeypatch, capsys)("create").strip()
    with ValkeyServer.start(tmp_path / "valkey") as server:
        near = CacheConfig(redis_url=server.url, valkey_dir=tmp_path / "valkey")
        [caller] = asyncio.run(call(near, text))
        assert caller is not None
        # Beside the running server, whose address the command finds by itself.
        Flora(embedded, monkeypatch, capsys)("revoke", caller.key_id)
        assert asyncio.run(call(near, text)) == [None]


@pytest.mark.redis
@pytest.mark.parametrize(
    "words",
    [
        ["create", "--tenant", "a b"],
        ["create", "--expires", "soon"],
        ["create", "--weight", "0"],
        ["create", "--adapter", "a/b/c"],
        ["show", "f" * 16],
        ["rotate", "x", "--grace", "1"],
        ["revoke", f"flora-{'f' * 16}-{'s' * 43}"],
    ],
)
def test_a_bad_request_is_refused_and_repeats_no_secret(flora: Flora, words: list[str]) -> None:
    code, out, err = flora.run(*words)
    assert (code, out) == (cli.EXIT_CALLER, "")
    assert "error:" in err
    assert "s" * 43 not in err


def test_durations_have_a_unit() -> None:
    assert [seconds(text) for text in ("0s", "45s", "30m", "12h", "90d")] == [
        0,
        45,
        1800,
        43200,
        7776000,
    ]
    for text in ("", "1", "h", "-1h", "1.5h", "1w", "1h30m", "9" * 10 + "s"):
        with pytest.raises(InvalidRequest):
            seconds(text)
