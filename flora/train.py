"""Training text adapters: read, fit, write a folder each. Knows no server."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from flora.adapter_data import AdapterData
from flora.adapter_files import AdapterFiles, write_adapter
from flora.base_model import fingerprint
from flora.causal_objective import CausalObjective
from flora.run_folder import RunFolder
from flora.stacked_adapters import StackedAdapters
from flora.stacked_trainer import Clock, Progress, StackedTrainer
from flora.text_data import read_text_data, text_out_dirs
from flora.train_config import TrainConfig
from flora.train_data import Example

CHECKPOINTS = "checkpoints"
"""The folder in `out_dir` that an unfinished run leaves."""


class TrainingStopped(Exception):
    """The run was told to stop; `train(..., resume=True)` goes on from its checkpoint."""


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What a run made of one adapter. Losses are nats per target token of its held-out examples."""

    name: str
    out_dir: Path
    num_parameters: int
    num_bytes: int
    num_steps: int
    heldout_loss_before: float
    heldout_loss_after: float


def train(
    config: TrainConfig,
    progress: Progress,
    *,
    resume: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    clock: Clock = time.perf_counter,
) -> list[TrainReport]:
    """Trains an adapter for each source of `data`, all in one batch, and writes a folder for each.

    What comes out is a function of the config, the data and the model on one machine, however often
    the run was resumed. Raises InvalidRequest when the data or the model cannot be used or there is
    nothing to resume, TrainingStopped once `should_stop` said so.
    """
    base = fingerprint(config.model_dir)
    data = read_text_data(config, AutoTokenizer.from_pretrained(config.model_dir))
    folder = RunFolder(config.out_dir / CHECKPOINTS, _about(config, data, base))
    folder.resume() if resume else folder.begin()
    trainer = _trainer(config, data, folder.path, progress, clock, should_stop)
    everyone = range(len(data))
    before = trainer.heldout_losses(everyone)
    if not trainer.fit(resume):
        raise TrainingStopped(f"stopped after step {trainer.state.global_step}")
    after = trainer.heldout_losses(everyone)
    reports = []
    for k, out_dir in enumerate(text_out_dirs(config, data)):
        files = trainer.stack.to_files(k, config.model_dir.name, base)
        num_bytes = write_folder(files, config.save_dtype, out_dir)
        size, steps = trainer.stack.num_parameters, trainer.adamw.num_steps[k]
        reports.append(
            TrainReport(data[k].name, out_dir, size, num_bytes, steps, before[k], after[k])
        )
    folder.remove()
    return reports


def write_folder(files: AdapterFiles, dtype: str, out_dir: Path) -> int:
    """adapter_config.json and adapter_model.safetensors, as the server reads them; bytes of it."""
    weights, config_json = write_adapter(files, dtype)
    out_dir.mkdir(parents=True, exist_ok=True)
    (out_dir / "adapter_model.safetensors").write_bytes(weights)
    (out_dir / "adapter_config.json").write_bytes(config_json)
    return len(weights)


def _trainer(
    config: TrainConfig,
    data: Sequence[AdapterData[Example]],
    checkpoint_dir: Path,
    progress: Progress,
    clock: Clock,
    should_stop: Callable[[], bool],
) -> StackedTrainer[Example]:
    dtype = getattr(torch, config.compute_dtype)
    model: Any = AutoModelForCausalLM.from_pretrained(config.model_dir, dtype=dtype)
    stack = StackedAdapters(
        model,
        len(data),
        config.rank,
        config.target_modules,
        config.tie_inputs,
        config.recipe.seed,
    )
    objective = CausalObjective()
    return StackedTrainer(
        model, stack, objective, data, config.recipe, checkpoint_dir, progress, clock, should_stop
    )


def _about(config: TrainConfig, data: Sequence[AdapterData[Example]], base: str) -> dict[str, str]:
    """All that decides what comes out, for comparison when a run is resumed."""
    named = {field.name: getattr(config, field.name) for field in fields(config)}
    for elsewhere in ("recipe", "model_dir", "data", "out_dir", "heldout"):
        del named[elsewhere]
    named |= {field.name: getattr(config.recipe, field.name) for field in fields(config.recipe)}
    examples = repr([(each.name, each.learned, each.heldout) for each in data]).encode()
    return {name: str(value) for name, value in named.items()} | {
        "base model": base,
        "data": hashlib.sha256(examples).hexdigest(),
    }
