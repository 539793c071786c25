"""What a Redis URL means: which servers, how they are found, what each connection is told.

    redis://  rediss://  unix://                 one server
    redis+cluster://host:port,host:port          any nodes of a cluster; rediss+cluster:// with TLS
    redis+sentinel://host:port,host:port/master/db   rediss+sentinel:// with TLS

User and password go before "@", options such as ssl_ca_certs behind "?". Sentinels that want a
password of their own take it from `sentinel_username` and `sentinel_password` there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

from redis.asyncio.connection import parse_url

_PORTS = {"single": 6379, "cluster": 6379, "sentinel": 26379}
_OF_SENTINELS = "sentinel_"


@dataclass(frozen=True, slots=True, repr=False)
class RedisUrl:
    """A URL taken apart. `options` are the client's keyword arguments and hold the password.

    `hosts` are the server, nodes of the cluster, or the sentinels that watch `master`.
    """

    kind: Literal["single", "cluster", "sentinel"]
    hosts: tuple[tuple[str, int], ...]
    options: Mapping[str, Any]
    sentinel_options: Mapping[str, Any]
    master: str = ""


def parse_redis_url(url: str) -> RedisUrl:
    """Raises ValueError, which never quotes the URL, when it is none of the above."""
    try:
        return _parse(url)
    except ValueError:
        # The parsers' own messages may quote the URL, and with it a password.
        raise ValueError(
            "redis_url is not a valid redis://, rediss://, unix://, redis+cluster:// or"
            " redis+sentinel:// URL"
        ) from None


def _parse(url: str) -> RedisUrl:
    parts = urlsplit(url)
    scheme, _, how = parts.scheme.partition("+")
    if not how:
        return RedisUrl("single", (), parse_url(url), {})
    if how not in ("cluster", "sentinel"):
        raise ValueError(how)
    kind: Literal["cluster", "sentinel"] = "cluster" if how == "cluster" else "sentinel"
    user, at, addresses = parts.netloc.rpartition("@")
    master, _, database = parts.path.strip("/").rpartition("/") if kind == "sentinel" else ("",) * 3
    if kind == "sentinel" and not master:
        master, database = database, ""
    if (kind == "sentinel") != bool(master) or (kind == "cluster" and parts.path.strip("/0")):
        raise ValueError(how)
    plain = parts._replace(scheme=scheme, path=f"/{int(database or 0)}")
    parsed = [
        parse_url(urlunsplit(plain._replace(netloc=f"{user}{at}{address}")))
        for address in addresses.split(",")
    ]
    hosts = tuple((one["host"], one.get("port", _PORTS[kind])) for one in parsed if "host" in one)
    if len(hosts) < len(parsed):
        raise ValueError(how)
    return RedisUrl(kind, hosts, *_options(dict(parsed[0])), master)


def _options(parsed: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keyword arguments for the data servers, and for the sentinels: TLS is one for both."""
    own = {
        name.removeprefix(_OF_SENTINELS): parsed.pop(name)
        for name in list(parsed)
        if name.startswith(_OF_SENTINELS)
    }
    secure = parsed.pop("connection_class", None) is not None
    shared = {name: value for name, value in parsed.items() if name.startswith("ssl_")}
    options = {name: value for name, value in parsed.items() if name not in ("host", "port")}
    if secure:
        options["ssl"] = shared["ssl"] = True
    return options, shared | own
