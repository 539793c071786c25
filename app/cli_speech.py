"""`flora train-speech` and `flora models prepare-speech`."""

from pathlib import Path
from typing import Annotated, Any

import typer

DEFAULT_SPEECH_FOLDER = Path("models/whisper-base")


def prepare_speech(
    folder: Annotated[Path, typer.Argument()] = DEFAULT_SPEECH_FOLDER,
) -> None:
    """Make the demo speech model, multilingual Whisper base, unless it is there."""
    from app.demo_whisper import prepare_demo_whisper

    typer.echo(f"preparing {folder}")
    made = prepare_demo_whisper(folder)
    typer.echo(f"{folder} is {'ready' if made else 'complete already'}")


def train_speech(
    data: Annotated[Path, typer.Argument(help="Tab-separated: path, language, transcript.")],
    out: Annotated[Path, typer.Argument(help="The adapter's folder.")],
    audio_root: Annotated[Path, typer.Option(help="Where the paths begin.")] = Path(),
    model: Annotated[Path, typer.Option(help="The base model's folder.")] = DEFAULT_SPEECH_FOLDER,
    part: Annotated[str | None, typer.Option(help="Layers: decoder, or all.")] = None,
    rank: int | None = None,
    tie_inputs: bool | None = None,
    steps: int = 100,
    batch_size: int = 8,
    learning_rate: float = 8e-3,
    seed: int = 0,
) -> None:
    """Train one adapter of a Whisper model."""
    from rich.console import Console

    from flora.recipe import Recipe
    from flora.speech.train import SpeechTrainConfig
    from flora.speech.train import train_speech as run
    from flora.train_progress import TrainProgressBar

    given = {"part": part, "rank": rank, "tie_inputs": tie_inputs}
    options: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    recipe = Recipe(
        max_steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        checkpoint_steps=0,
        seed=seed,
    )
    config = SpeechTrainConfig(model, data, audio_root, out, recipe=recipe, **options)
    with TrainProgressBar(out.name, Console()) as bar:
        report = run(config, bar, heard=bar.heard)
    bar.report([report])
