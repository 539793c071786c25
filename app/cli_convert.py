"""`flora convert`: a fLoRA adapter in the place of a trained LoRA."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from flora.convert.conversion import Kept

MODEL_FOLDER = Path("models/smollm2-135m-instruct")


def convert(
    lora: Annotated[Path, typer.Argument(help="The LoRA's PEFT folder.")],
    out: Annotated[Path, typer.Argument(help="The adapter's folder.")],
    model: Annotated[Path, typer.Option(help="The base model's folder.")] = MODEL_FOLDER,
    rank: Annotated[int, typer.Option(min=1, max=64)] = 1,
    prompts: Annotated[Path | None, typer.Option(help="JSON lines; else made up.")] = None,
    num_prompts: Annotated[int, typer.Option(min=2)] = 256,
    steps: Annotated[int, typer.Option(min=0, help="Of distillation; 0: closed form alone.")] = 80,
    batch_size: Annotated[int, typer.Option(min=1)] = 8,
    learning_rate: Annotated[
        float | None, typer.Option(help="Else 0.004 at rank 1, and less at higher ranks.")
    ] = None,
    seed: int = 0,
    json_: Annotated[Path | None, typer.Option("--json", help="Where the figures go.")] = None,
) -> None:
    """Derive a fLoRA adapter from a LoRA, without labels, and say how much of it is kept."""
    from rich.console import Console
    from rich.progress import Progress

    from flora.convert.conversion import Conversion, ConvertConfig, write_folder
    from flora.convert.distil import DistilConfig

    config = ConvertConfig(
        model, lora, prompts, num_prompts=num_prompts, batch_size=batch_size, seed=seed
    )
    distilling = DistilConfig(steps, batch_size, learning_rate, seed=seed)
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("reading", total=None)

        def say(text: str) -> None:
            bar.update(task, description=text)

        def step(number: int, num_steps: int, divergence: float) -> None:
            text = f"distilling, {divergence:.4f} nats a token"
            bar.update(task, description=text, completed=number, total=num_steps)

        files, kept = Conversion(config, say).derive(rank, distilling, step)
    num_bytes = write_folder(files, out)
    Console(width=100).print(table_of(kept))
    typer.echo(f"{out.name}: rank {rank}, {num_bytes:,} bytes")
    if json_ is not None:
        options = {"steps": steps, "num_prompts": num_prompts, "learning_rate": learning_rate}
        found = {"config": {**options, "seed": seed}, **asdict(kept)}
        json_.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if kept.is_poor:
        typer.secho(warning(kept), fg="red", bold=True, err=True)


def table_of(kept: "Kept") -> "Table":
    """What is kept: of nothing, by the closed form, and in the end."""
    from rich.table import Table

    columns = ("share of the LoRA kept", "nats a token from it", "same next token")
    title = f"on {kept.num_heldout_tokens:,} held-out tokens"
    table = Table("", *columns, title=title)
    start = kept.base_divergence * (1 - kept.start_share)
    rows = (
        ("base model", 0.0, kept.base_divergence, kept.base_agreement),
        ("closed form", kept.start_share, start, kept.start_agreement),
        ("distilled", kept.share, kept.divergence, kept.agreement),
    )
    for name, share, nats, agreement in rows:
        table.add_row(name, f"{share:.3f}", f"{nats:.4f}", f"{agreement:.3f}")
    return table


def warning(kept: "Kept") -> str:
    """What to do about a poor result."""
    return (
        f"warning: only {kept.share:.0%} of the LoRA's effect is kept. Try --rank {2 * kept.rank},"
        " more --steps, or --prompts as the adapter will see them; train anew with"
        " `flora train` where there are labels, or serve it as a LoRA"
    )
