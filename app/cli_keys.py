"""`flora keys`: API keys in the stores of a server, whether it runs or not."""

import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from app.cli_options import ConfigFile, Set, given_settings
from contracts.access import Quota, Scope
from contracts.adapters import DEFAULT_TENANT, TenantId
from contracts.errors import InvalidRequest

if TYPE_CHECKING:
    from app.api_key import ApiKey
    from app.key_issuer import KeyIssuer

T = TypeVar("T")

keys = typer.Typer(no_args_is_help=True, help="API keys of a server, in its stores.")

DEFAULT_SCOPES = [Scope.GENERATE, Scope.ADAPTERS_READ, Scope.ADAPTERS_WRITE]
_DURATION = re.compile(r"([0-9]{1,9})([smhd])")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}

Json = Annotated[bool, typer.Option("--json", help="JSON, for programs.")]
Count = Annotated[int | None, typer.Option(min=1, help="No limit unless given.")]


@keys.command("create")
def keys_create(
    tenant: Annotated[str, typer.Option(help="Whose adapters the key reaches.")] = DEFAULT_TENANT,
    scope: Annotated[
        list[Scope], typer.Option(help="May be repeated; all but admin unless given.")
    ] = DEFAULT_SCOPES,
    adapter: Annotated[
        list[str] | None, typer.Option(help="NAME or OWNER/NAME, may be repeated; else all.")
    ] = None,
    expires: Annotated[str | None, typer.Option(help="90d, 12h, 30m, 45s; else never.")] = None,
    requests_per_min: Count = None,
    tokens_per_min: Count = None,
    max_streams: Count = None,
    weight: Annotated[float, typer.Option(help="The tenant's share among others.")] = 1.0,
    label: Annotated[str, typer.Option(help="What it is for.")] = "",
    as_json: Json = False,
    config: ConfigFile = None,
    set_: Set = None,
) -> None:
    """Make a key and print it: nobody can see it again."""
    from time import time

    from app.api_key import ApiKey

    draft = ApiKey(
        key_id="",
        tenant=TenantId(tenant),
        scopes=frozenset(scope),
        secrets=(),
        created_at_s=0.0,
        expires_at_s=None if expires is None else time() + seconds(expires),
        adapters=frozenset(adapter) if adapter else None,
        quota=Quota(requests_per_min, tokens_per_min, max_streams),
        weight=weight,
        label=label,
    )
    show_new(*_run(config, set_, lambda issuer: issuer.create(draft)), as_json=as_json)


@keys.command("list")
def keys_list(as_json: Json = False, config: ConfigFile = None, set_: Set = None) -> None:
    """All keys, one a line: id, tenant, state, scopes, label."""
    from time import time

    async def every(issuer: "KeyIssuer") -> list["ApiKey"]:
        return [key async for key in issuer.all_keys()]

    for key in sorted(_run(config, set_, every), key=lambda key: (key.tenant, key.created_at_s)):
        entry = key_entry(key, time())
        words = [key.key_id, key.tenant, entry["state"], ",".join(entry["scopes"]), key.label]
        typer.echo(json.dumps(entry) if as_json else "\t".join(words))


@keys.command("show")
def keys_show(key_id: str, config: ConfigFile = None, set_: Set = None) -> None:
    """One key without its secret, as JSON."""
    from time import time

    key = _run(config, set_, lambda issuer: issuer.show(key_id))
    typer.echo(json.dumps(key_entry(key, time()), indent=2))


@keys.command("revoke")
def keys_revoke(key_id: str, config: ConfigFile = None, set_: Set = None) -> None:
    """End a key for good. Servers act on it within `auth.cache_ttl_s`."""
    _run(config, set_, lambda issuer: issuer.revoke(key_id))
    typer.echo(f"revoked {key_id}")


@keys.command("rotate")
def keys_rotate(
    key_id: str,
    grace: Annotated[str, typer.Option(help="How long the old secret works on: 1h, 0s.")] = "1h",
    as_json: Json = False,
    config: ConfigFile = None,
    set_: Set = None,
) -> None:
    """Give a key a new secret and print it: nobody can see it again."""
    grace_s = seconds(grace)
    show_new(*_run(config, set_, lambda issuer: issuer.rotate(key_id, grace_s)), as_json=as_json)


def seconds(duration: str) -> float:
    """`90d`, `12h`, `30m` or `45s` in seconds. Raises InvalidRequest."""
    found = _DURATION.fullmatch(duration)
    if found is None:
        raise InvalidRequest(f"a duration is a number and s, m, h or d, not {duration[:40]!r}")
    return float(int(found[1]) * _UNIT_S[found[2]])


def key_entry(key: "ApiKey", now_s: float) -> dict[str, Any]:
    """What may be told of a key; nothing of its secrets but their number."""
    quota = key.quota
    state = "active" if key.is_usable(now_s) else "revoked" if key.is_revoked else "expired"
    return {
        "key_id": key.key_id,
        "tenant": key.tenant,
        "state": state,
        "scopes": sorted(key.scopes),
        "adapters": None if key.adapters is None else sorted(key.adapters),
        "requests_per_min": quota.requests_per_min,
        "tokens_per_min": quota.tokens_per_min,
        "max_streams": quota.max_streams,
        "weight": key.weight,
        "created_at_s": key.created_at_s,
        "expires_at_s": key.expires_at_s,
        "label": key.label,
        "num_secrets": sum(kept.until_s is None or now_s < kept.until_s for kept in key.secrets),
    }


def show_new(key: "ApiKey", text: str, *, as_json: bool) -> None:
    """A key with its secret, this once."""
    if as_json:
        typer.echo(json.dumps({"key": text, **key_entry(key, key.created_at_s)}))
        return
    typer.echo(text)
    typer.echo(f"key {key.key_id} of tenant {key.tenant}; it is shown only now", err=True)


def _run(
    config: Path | None, set_: list[str] | None, work: Callable[["KeyIssuer"], Awaitable[T]]
) -> T:
    from app.key_maintenance import with_issuer

    return with_issuer(given_settings(config, set_).cache, work)
