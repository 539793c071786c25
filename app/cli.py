"""The `flora` command. Each command imports what it needs when it runs, so that help is instant."""

import runpy
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from app.bench_modules import find_bench_modules
from app.cli_adapters import adapters
from app.cli_keys import keys
from app.cli_options import ConfigFile, Key, Set, given_settings
from app.cli_usage import usage
from app.cli_window import window
from contracts.errors import CallerError, InvalidRequest, ServingError

EXIT_CALLER = 1
EXIT_SERVICE = 3

DEFAULT_FOLDER = Path("models/smollm2-135m-instruct")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="One base model, millions of per-user fLoRA adapters, one batch.",
)
models = typer.Typer(no_args_is_help=True, help="Models on this machine.")
app.add_typer(adapters, name="adapters")
app.add_typer(keys, name="keys")
app.add_typer(models, name="models")
app.add_typer(usage, name="usage")
app.command()(window)


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


@app.command()
def train(
    data: Annotated[Path, typer.Argument(help="JSON lines of text, messages or prompts.")],
    out: Annotated[Path, typer.Argument(help="The adapter's folder.")],
    model: Annotated[Path, typer.Option(help="The base model's folder.")] = DEFAULT_FOLDER,
    rank: int | None = None,
    tie_inputs: bool | None = None,
    target_modules: Annotated[list[str] | None, typer.Option(help="Names or last parts.")] = None,
    max_steps: int | None = None,
    batch_size: int | None = None,
    max_length_tokens: int | None = None,
    learning_rate: float | None = None,
    seed: int | None = None,
) -> None:
    """Train one adapter. What is not given has the defaults of flora.train.TrainConfig."""
    from rich.console import Console

    from flora.train import TrainConfig
    from flora.train import train as run
    from flora.train_progress import TrainProgressBar

    given = {
        "rank": rank,
        "tie_inputs": tie_inputs,
        "target_modules": tuple(target_modules) if target_modules else None,
        "max_steps": max_steps,
        "batch_size": batch_size,
        "max_length_tokens": max_length_tokens,
        "learning_rate": learning_rate,
        "seed": seed,
    }
    options: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    config = TrainConfig(model, data, out, **options)
    with TrainProgressBar(out.name, Console()) as bar:
        report = run(config, bar)
    bar.report(report)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def bench(context: typer.Context, name: str) -> None:
    """Run a benchmark; what follows its name is its own: `flora bench engine --json FILE`."""
    known = find_bench_modules()
    if name not in known:
        raise InvalidRequest(f"no benchmark '{name}'; there are: {', '.join(sorted(known))}")
    sys.argv = [f"flora bench {name}", *context.args]
    runpy.run_module(known[name], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
