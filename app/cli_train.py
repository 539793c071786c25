"""`flora train`: adapters from text, any number of them in one run, and on to a server."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from app.cli_adapters import BaseModel, show_version
from app.cli_options import DEFAULT_URL, Key, Url, api_client
from contracts.adapters import ADAPTER_NAME
from contracts.errors import InvalidRequest
from flora.learning_rate import Schedule
from flora.recipe import Recipe
from flora.train_config import TrainConfig
from flora.train_sources import find_sources, is_one

if TYPE_CHECKING:
    from flora.train import TrainReport

EXIT_INTERRUPTED = 130
"""What a shell says of a command that Ctrl-C ended."""

_CONFIG = TrainConfig(Path(), (), Path())
_RECIPE = Recipe()

Model = Annotated[Path, typer.Argument(help="The base model's folder.")]
Data = Annotated[list[Path], typer.Argument(help="JSON lines, datasets, or folders of them.")]
Out = Annotated[Path, typer.Option(help="The adapter's folder; of several, the folder of theirs.")]
Heldout = Annotated[Path | None, typer.Option(help="A file, or a folder with a file for each.")]
HeldoutFraction = Annotated[float, typer.Option(help="Of each file, without --heldout.")]
TieInputs = Annotated[bool, typer.Option(help="Siblings that read one input share B.")]
Targets = Annotated[str, typer.Option(help="q_proj,k_proj: names or last parts; all unless given.")]
Steps = Annotated[int, typer.Option(help="Steps of each adapter, at most.")]
Epochs = Annotated[float | None, typer.Option(help="Passes over an adapter's data, at most.")]
BatchSize = Annotated[int, typer.Option(help="Examples of each adapter in a step.")]
MaxLength = Annotated[int, typer.Option("--max-length", help="Tokens of an example, at most.")]
Warmup = Annotated[int, typer.Option("--warmup-steps")]
Clip = Annotated[float, typer.Option(help="Of each adapter's own gradient.")]
EvalSteps = Annotated[int, typer.Option(help="Held-out losses every so often; 0: at the ends.")]
Patience = Annotated[int, typer.Option(help="Stop after so many that are no better; 0: never.")]
CheckpointSteps = Annotated[int, typer.Option(help="0: only on Ctrl-C.")]
Recompute = Annotated[bool, typer.Option("--gradient-checkpointing", help="Less memory, slower.")]
ForwardTokens = Annotated[int, typer.Option(help="Of one pass; bounds the memory, not the step.")]
Bf16 = Annotated[bool, typer.Option("--bf16", help="Keep and compute the base model in bfloat16.")]
SaveDtype = Annotated[Literal["float32", "float16", "bfloat16"], typer.Option()]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")]
Publish = Annotated[bool, typer.Option("--publish", help="Put the adapters on a running server.")]


def train(
    model: Model,
    data: Data,
    out: Out,
    heldout: Heldout = None,
    heldout_fraction: HeldoutFraction = _CONFIG.heldout_fraction,
    rank: int = _CONFIG.rank,
    tie_inputs: TieInputs = _CONFIG.tie_inputs,
    targets: Targets = "",
    steps: Steps = _RECIPE.max_steps,
    epochs: Epochs = _RECIPE.max_epochs,
    batch_size: BatchSize = _RECIPE.batch_size,
    max_length: MaxLength = _CONFIG.max_length_tokens,
    learning_rate: float = _RECIPE.learning_rate,
    schedule: Schedule = _RECIPE.schedule,
    warmup_steps: Warmup = _RECIPE.num_warmup_steps,
    max_gradient_norm: Clip = _RECIPE.max_gradient_norm,
    eval_steps: EvalSteps = _RECIPE.eval_steps,
    patience: Patience = _RECIPE.patience,
    checkpoint_steps: CheckpointSteps = _RECIPE.checkpoint_steps,
    gradient_checkpointing: Recompute = _RECIPE.gradient_checkpointing,
    max_forward_tokens: ForwardTokens = _RECIPE.max_forward_tokens,
    bf16: Bf16 = False,
    save_dtype: SaveDtype = _CONFIG.save_dtype,
    seed: int = _RECIPE.seed,
    resume: Resume = False,
    publish: Publish = False,
    base_model: BaseModel = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Train an adapter for each file of DATA, all in one batch over one copy of MODEL."""
    recipe = Recipe(
        steps, epochs, batch_size, learning_rate, schedule, warmup_steps, max_gradient_norm,
        eval_steps, patience, checkpoint_steps, gradient_checkpointing, max_forward_tokens, seed,
    )  # fmt: skip
    config = TrainConfig(
        model, tuple(data), out, heldout, rank, tie_inputs, split_names(targets), max_length,
        heldout_fraction, "bfloat16" if bf16 else "float32", save_dtype, recipe,
    )  # fmt: skip
    if not publish:
        run(config, resume)
        return
    with api_client(url, key) as api:
        # Before the work, not after it.
        require_names(config)
        api.require_ready()
        for report in run(config, resume):
            show_version(api.push(report.name, report.out_dir, base_model))


def run(config: TrainConfig, resume: bool) -> "Sequence[TrainReport]":
    """Trains with a bar. Ctrl-C leaves a checkpoint after the step and ends the command."""
    require_trainer()
    # torch and transformers take seconds to import.
    from rich.console import Console
    from transformers.utils.logging import disable_progress_bar

    from flora.train import TrainingStopped
    from flora.train import train as train_adapters
    from flora.train_interrupt import TrainInterrupt
    from flora.train_progress import TrainProgressBar

    disable_progress_bar()  # of loading the model: there is one bar, that of the steps
    try:
        with TrainInterrupt() as interrupt, TrainProgressBar(config.out_dir.name, Console()) as bar:
            reports = train_adapters(config, bar, resume=resume, should_stop=interrupt)
    except TrainingStopped as stopped:
        typer.echo(f"{stopped}; the same command with --resume goes on from there", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    bar.report(reports)
    return reports


def require_trainer() -> None:
    """Raises InvalidRequest unless what transformers' Trainer runs on is installed."""
    try:
        importlib.import_module("accelerate")
    except ImportError as error:
        raise InvalidRequest(
            "training needs the package 'accelerate': pip install 'flora-serve[train]'"
        ) from error


def require_names(config: TrainConfig) -> None:
    """Raises InvalidRequest unless every adapter's name is one that a server takes."""
    if is_one(config.data):
        names = [config.out_dir.resolve().name]
    else:
        names = list(find_sources(config.data))
    for name in names:
        if not ADAPTER_NAME.fullmatch(name):
            raise InvalidRequest(f"'{name}' cannot be published: rename the file or folder", "data")


def split_names(text: str) -> tuple[str, ...]:
    """The text `a, b` as ("a", "b")."""
    return tuple(name for name in (part.strip() for part in text.split(",")) if name)
