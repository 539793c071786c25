"""`flora import`: adapters of other methods and trainers as fLoRA adapters."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from app.cli_options import DEFAULT_FOLDER

BaseFolder = Annotated[Path, typer.Option("--model", help="The base model's folder.")]
Dtype = Annotated[str, typer.Option(help="float32, float16 or bfloat16; float32 is exact.")]
Parametrization = Annotated[
    str | None, typer.Option(help="deviation or value, where a fLoRA source does not say.")
]
Average = Annotated[
    bool, typer.Option("--average", help="The fLoRA trainer averages over ranks, as the paper.")
]


def import_(
    source: Annotated[Path, typer.Argument(help="A PEFT folder, or one .safetensors file.")],
    out: Annotated[Path, typer.Argument(help="The fLoRA adapter's folder.")],
    model: BaseFolder = DEFAULT_FOLDER,
    dtype: Dtype = "float32",
    parametrization: Parametrization = None,
    average: Average = False,
) -> None:
    """Make a fLoRA adapter of an IA3, HiRA or other trainer's fLoRA adapter: exact, or refused."""
    from contracts.errors import InvalidRequest
    from flora.adapter_config import AdapterLimits
    from flora.importers.importer import import_folder
    from flora.importers.source import Source

    if dtype not in ("float32", "float16", "bfloat16"):
        raise InvalidRequest(f"dtype is float32, float16 or bfloat16, not '{dtype}'", "dtype")
    limits = AdapterLimits()
    said = {"parametrization": parametrization, "average_over_ranks": average or None}
    given = {name: value for name, value in said.items() if value is not None}
    found = Source.open(source, limits)
    found = replace(found, config={**found.config, **given})
    report = import_folder(found, model, out, dtype, limits)
    typer.echo(
        f"{out}: {report.method} of {report.num_modules} modules as fLoRA of rank {report.rank},"
        f" {report.num_bytes} bytes"
    )
