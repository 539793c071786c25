"""The `flora` command. Each command imports what it needs when it runs, so that help is instant."""

import os
import runpy
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from app.bench_modules import find_bench_modules
from app.cli_adapters import adapters
from app.cli_convert import convert
from app.cli_eval import evals
from app.cli_import import import_
from app.cli_keys import keys
from app.cli_options import DEFAULT_FOLDER, ConfigFile, Key, Set, given_settings
from app.cli_simulate import simulate
from app.cli_speech import prepare_speech, train_speech
from app.cli_train import train
from app.cli_usage import usage
from app.cli_window import window
from contracts.errors import CallerError, InvalidRequest, ServingError

EXIT_CALLER = 1
EXIT_SERVICE = 3

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="One base model, millions of per-user fLoRA adapters, one batch.",
)
models = typer.Typer(no_args_is_help=True, help="Models on this machine.")
app.add_typer(adapters, name="adapters")
app.add_typer(evals, name="eval")
app.add_typer(keys, name="keys")
app.add_typer(models, name="models")
app.add_typer(usage, name="usage")
app.command()(convert)
app.command("import")(import_)
app.command()(window)
app.command()(simulate)
app.command("train-speech")(train_speech)
models.command("prepare-speech")(prepare_speech)
app.command()(train)


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(f"flora-serve {version('flora-serve')}")
        raise typer.Exit


@app.callback()
def flora(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Tell it and end."),
    ] = False,
) -> None:
    """What comes before every command."""


def main() -> None:
    """Run the command line; a refused request exits with 1, a service in trouble with 3."""
    try:
        app()
    except ServingError as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        sys.exit(EXIT_CALLER if isinstance(error, CallerError) else EXIT_SERVICE)


@app.command()
def serve(
    config: ConfigFile = None,
    host: Annotated[str | None, typer.Option(help="server.host")] = None,
    port: Annotated[int | None, typer.Option(help="server.port")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="server.grpc_port; 0: none.")] = None,
    model: Annotated[str | None, typer.Option(help="A folder or a Hugging Face name.")] = None,
    name: Annotated[str | None, typer.Option(help="What clients call the base model.")] = None,
    engine: Annotated[str | None, typer.Option(help="vllm, or echo: no model at all.")] = None,
    haproxy: Annotated[bool | None, typer.Option(help="HAProxy in front.")] = None,
    demo: Annotated[Path | None, typer.Option(help="Publish the adapters in this folder.")] = None,
    key: Key = None,
    set_: Set = None,
) -> None:
    """Start everything on this machine: Valkey, Ray, the engine and the API."""
    from rich.console import Console

    from app.config import read_api_key
    from app.local import serve_local

    given = {
        "server.host": host,
        "server.port": port,
        "server.grpc_port": grpc_port,
        "server.served_model_name": name,
        "server.haproxy": haproxy,
        "replica.model": model,
        "replica.engine": engine,
    }
    named = {key: value for key, value in given.items() if value is not None}
    settings = given_settings(config, set_, named)
    serve_local(settings, demo=demo, console=Console(), key=read_api_key() if key is None else key)


@models.command("prepare")
def models_prepare(folder: Annotated[Path, typer.Argument()] = DEFAULT_FOLDER) -> None:
    """Make the demo model, SmolLM2-135M-Instruct, unless it is there."""
    from app.demo_model import prepare_demo_model

    typer.echo(f"preparing {folder}")
    made = prepare_demo_model(folder)
    typer.echo(f"{folder} is {'ready' if made else 'complete already'}")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def bench(context: typer.Context, name: str) -> None:
    """Run a benchmark; what follows its name is its own: `flora bench engine --json FILE`."""
    known = find_bench_modules()
    if name not in known:
        raise InvalidRequest(f"no benchmark '{name}'; there are: {', '.join(sorted(known))}")
    sys.argv = [f"flora bench {name}", *context.args]
    runpy.run_module(known[name], run_name="__main__", alter_sys=True)


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def loadtest(context: typer.Context) -> None:
    """Put load on a server: `flora loadtest poisson-8 --url URL`; `--help` lists its options."""
    # A process that is locust from its first import on: it replaces the sockets of all modules.
    os.execv(sys.executable, [sys.executable, "-m", "loadtest", *context.args])


if __name__ == "__main__":
    main()
