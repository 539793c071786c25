"""`flora usage`: what tenants have used, from the records in Redis."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from app.cli_options import ConfigFile, Set, given_settings
from contracts.errors import InvalidRequest

usage = typer.Typer(no_args_is_help=True, help="What tenants have used.")

Since = Annotated[str, typer.Option(help="2026-01-31, 2026-01-31T12:00:00Z, or Unix seconds.")]


@usage.command("export")
def usage_export(
    since: Since = "0",
    tenant: Annotated[str | None, typer.Option(help="All of them, unless given.")] = None,
    config: ConfigFile = None,
    set_: Set = None,
) -> None:
    """Usage records as JSON lines, each request once, then the totals of each tenant."""
    from app.usage_export import export_usage

    cache = given_settings(config, set_).cache
    export_usage(cache, typer.echo, since_s=unix_time_s(since), tenant=tenant)


def unix_time_s(text: str) -> float:
    """A date, a time (UTC unless it says otherwise), or Unix seconds. Raises InvalidRequest."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(f"'{text}' is not a time: give 2026-01-31T12:00:00Z") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
