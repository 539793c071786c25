"""`flora window`: tune the window of a server that runs."""

from typing import Annotated

import typer

from contracts.errors import InvalidRequest


def window(
    max_batch_size: Annotated[int | None, typer.Option(min=1, help="Most requests.")] = None,
    wait_s: Annotated[float | None, typer.Option(min=0, max=1, help="For others to come.")] = None,
    adaptive: Annotated[bool | None, typer.Option(help="No wait while nothing runs.")] = None,
) -> None:
    """Tune the window of the server on this machine while it runs; no request is dropped."""
    given = {"max_batch_size": max_batch_size, "wait_s": wait_s, "adaptive": adaptive}
    changes = {name: value for name, value in given.items() if value is not None}
    if not changes:
        raise InvalidRequest("say what to change: --max-batch-size, --wait-s or --adaptive")
    # Ray takes a second to import.
    from app.ray_tuning import tune_windows

    typer.echo(f"tuned {tune_windows(changes)} ingress replicas")
