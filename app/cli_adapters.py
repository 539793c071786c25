"""`flora adapters`: over HTTP those of a running server, beside it the stores themselves."""

from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli_options import DEFAULT_URL, ConfigFile, Key, Set, Url, api_client, given_settings
from contracts.errors import InvalidRequest

adapters = typer.Typer(no_args_is_help=True, help="Adapters of a server, and its stores.")

Reader = Annotated[str | None, typer.Option("--tenant", help="Whom to share it with.")]
Public = Annotated[bool, typer.Option("--public", help="Every tenant.")]
BaseModel = Annotated[str | None, typer.Option(help="The base model, where there are several.")]
Version = Annotated[int | None, typer.Option(min=1, help="The current one unless given.")]


@adapters.command("push")
def adapters_push(
    name: str, source: Path, model: BaseModel = None, url: Url = DEFAULT_URL, key: Key = None
) -> None:
    """Publish a PEFT folder or one .safetensors file as NAME."""
    with api_client(url, key) as api:
        made = api.push(name, source, model)
    show_version(made)


@adapters.command("list")
def adapters_list(url: Url = DEFAULT_URL, key: Key = None) -> None:
    """All adapters, one a line: name, version, rank, bytes."""
    with api_client(url, key) as api:
        for entry in api.adapters():
            typer.echo(
                f"{entry['name']}\t@{entry['version']}\trank {entry['rank']}\t"
                f"{entry['size_bytes']} bytes"
            )


@adapters.command("show")
def adapters_show(name: str, url: Url = DEFAULT_URL, key: Key = None) -> None:
    """One adapter and its versions, as JSON."""
    with api_client(url, key) as api:
        show_json(api.show(name))


@adapters.command("rollback")
def adapters_rollback(
    name: str,
    to: Annotated[int | None, typer.Option(min=1, help="The one before, unless given.")] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Make an older version's bytes current again, as a new version."""
    with api_client(url, key) as api:
        show_version(api.rollback(name, to))


@adapters.command("pin")
def adapters_pin(
    name: str, version: Version = None, url: Url = DEFAULT_URL, key: Key = None
) -> None:
    """Keep a version, however many come after it."""
    with api_client(url, key) as api:
        show_version(api.pin(name, version))


@adapters.command("unpin")
def adapters_unpin(
    name: str, version: Version = None, url: Url = DEFAULT_URL, key: Key = None
) -> None:
    """Let a version go when newer ones crowd it out."""
    with api_client(url, key) as api:
        show_version(api.unpin(name, version))


@adapters.command("prefetch")
def adapters_prefetch(
    name: str, version: Version = None, url: Url = DEFAULT_URL, key: Key = None
) -> None:
    """Bring a version to Redis and to the replicas before anybody asks for it."""
    with api_client(url, key) as api:
        show_version(api.prefetch(name, version))


@adapters.command("share")
def adapters_share(
    name: str,
    tenant: Reader = None,
    public: Public = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Let another tenant, or every tenant, use an adapter."""
    with api_client(url, key) as api:
        show_json(api.share(name, chosen_reader(tenant, public)))


@adapters.command("unshare")
def adapters_unshare(
    name: str,
    tenant: Reader = None,
    public: Public = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Take that back."""
    with api_client(url, key) as api:
        show_json(api.unshare(name, chosen_reader(tenant, public)))


@adapters.command("delete")
def adapters_delete(name: str, url: Url = DEFAULT_URL, key: Key = None) -> None:
    """Forget an adapter with all its versions."""
    with api_client(url, key) as api:
        api.delete(name)
    typer.echo(f"deleted {name}")


@adapters.command("rebuild")
def adapters_rebuild(config: ConfigFile = None, set_: Set = None) -> None:
    """Fill the registry in Redis from the object store."""
    from rich.console import Console

    from app.maintenance import rebuild_registry

    rebuild_registry(given_settings(config, set_).cache, Console())


@adapters.command("gc")
def adapters_gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing.")] = False,
    config: ConfigFile = None,
    set_: Set = None,
) -> None:
    """Remove bytes from the object store that no version refers to."""
    from rich.console import Console

    from app.maintenance import collect_garbage

    collect_garbage(given_settings(config, set_).cache, Console(), dry_run=dry_run)


def chosen_reader(tenant: str | None, public: bool) -> str | None:
    """The tenant, None for every one. Raises InvalidRequest unless it is one of the two."""
    if (tenant is None) is not public:
        raise InvalidRequest("give --tenant NAME, or --public")
    return tenant


def show_version(made: dict[str, Any]) -> None:
    """One version on one line."""
    pinned = {True: "  pinned", False: "  not pinned"}.get(made.get("pinned", ""), "")
    typer.echo(f"{made['id']}@{made['version']}  rank {made['rank']}  {made['digest']}{pinned}")


def show_json(value: dict[str, Any]) -> None:
    """For people and for jq."""
    import json

    typer.echo(json.dumps(value, indent=2))
