"""How the four demo adapters are trained: fixed seeds, few steps, minutes on two cores."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from flora.demo.build_data import DATA_DIR
from flora.recipe import Recipe
from flora.train import TrainReport, train
from flora.train_config import TrainConfig
from flora.train_progress import TrainProgressBar

DEMO_ADAPTERS = ("pirate", "shakespeare", "shout", "json")
_NUM_STEPS = {"pirate": 70, "shakespeare": 90, "shout": 60, "json": 50}


def demo_config(name: str, model_dir: Path, out_dir: Path) -> TrainConfig:
    """The recipe of one demo adapter; it is written to `out_dir`/`name`."""
    return TrainConfig(
        model_dir=model_dir,
        data=(DATA_DIR / f"{name}.jsonl",),
        out_dir=out_dir / name,
        max_length_tokens=128,
        heldout_fraction=0.08,
        recipe=Recipe(max_steps=_NUM_STEPS[name], batch_size=8, num_warmup_steps=5, seed=1),
    )


def train_demo(
    model_dir: Path,
    out_dir: Path,
    console: Console,
    names: Sequence[str] = DEMO_ADAPTERS,
    max_steps: int | None = None,
) -> list[TrainReport]:
    """Trains the named demo adapters one after the other; `max_steps` cuts every run short."""
    reports = []
    for name in names:
        config = demo_config(name, model_dir, out_dir)
        recipe = replace(config.recipe, max_steps=max_steps or config.recipe.max_steps)
        with TrainProgressBar(name, console) as bar:
            made = train(replace(config, recipe=recipe), bar)
        bar.report(made)
        reports += made
    return reports
