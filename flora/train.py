"""Training one adapter: read, fit, write the folder. Knows no server."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer

from contracts.errors import InvalidRequest
from flora.adapter_files import AdapterFiles, write_adapter
from flora.base_model import fingerprint
from flora.train_data import IGNORED, Example, TokenTensors, collate, read_records, to_example
from flora.trainable_adapter import TrainableAdapter


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """One training run. `target_modules` are names or their last parts; none means every linear.

    Raises InvalidRequest when a value is out of range.
    """

    model_dir: Path
    data_path: Path
    out_dir: Path
    rank: int = 1
    tie_inputs: bool = True
    target_modules: tuple[str, ...] = ()
    max_steps: int = 200
    batch_size: int = 8
    max_length_tokens: int = 256
    learning_rate: float = 8e-3
    schedule: Literal["cosine", "constant"] = "cosine"
    num_warmup_steps: int = 10
    max_gradient_norm: float = 1.0
    heldout_fraction: float = 0.1
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    save_dtype: Literal["float32", "float16", "bfloat16"] = "bfloat16"
    seed: int = 0

    def __post_init__(self) -> None:
        counts = (self.rank, self.max_steps, self.batch_size, self.max_length_tokens - 1)
        if min(counts) < 1 or self.learning_rate <= 0 or not 0 < self.heldout_fraction < 1:
            raise InvalidRequest(
                "rank, max_steps, batch_size and learning_rate are positive,"
                " max_length_tokens is at least 2, heldout_fraction is between 0 and 1"
            )


@dataclass(frozen=True, slots=True)
class TrainStep:
    """Where a run stands after one step. `loss` is nats per target token of the step's batch."""

    step: int
    max_steps: int
    loss: float
    num_tokens: int
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What a run made. Losses are nats per target token of the held-out examples."""

    out_dir: Path
    num_parameters: int
    num_bytes: int
    heldout_loss_before: float
    heldout_loss_after: float


Progress = Callable[[TrainStep], None]
Clock = Callable[[], float]


def train(config: TrainConfig, progress: Progress, clock: Clock = time.perf_counter) -> TrainReport:
    """Trains on `data_path` and writes adapter_config.json and adapter_model.safetensors.

    The result is a function of the config, the data and the model (on one machine). Raises
    InvalidRequest when the data or the model cannot be used.
    """
    tokenizer: Any = AutoTokenizer.from_pretrained(config.model_dir)
    examples = [
        to_example(record, tokenizer, config.max_length_tokens)
        for record in read_records(config.data_path)
    ]
    learned, heldout = split(examples, config.heldout_fraction, config.seed)
    model: Any = AutoModelForCausalLM.from_pretrained(
        config.model_dir, dtype=getattr(torch, config.compute_dtype)
    )
    adapter = TrainableAdapter(
        model, config.rank, config.target_modules, config.tie_inputs, config.seed
    )
    loss_before = mean_loss(model, heldout, config.batch_size)
    fit(model, adapter.parameters, learned, config, progress, clock)
    loss_after = mean_loss(model, heldout, config.batch_size)
    files = adapter.to_files(config.model_dir.name, fingerprint(config.model_dir))
    num_bytes = _write(files, config)
    return TrainReport(config.out_dir, adapter.num_parameters, num_bytes, loss_before, loss_after)


def split(
    examples: Sequence[Example], heldout_fraction: float, seed: int
) -> tuple[list[Example], list[Example]]:
    """Shuffled examples to learn from, and at least one held out. Raises InvalidRequest on none."""
    usable = [example for example in examples if any(example.is_target[1:])]
    if len(usable) < 2:
        raise InvalidRequest("fewer than two lines have a target token within the length", "data")
    order = torch.randperm(len(usable), generator=torch.Generator().manual_seed(seed)).tolist()
    num_heldout = min(max(1, round(heldout_fraction * len(usable))), len(usable) - 1)
    shuffled = [usable[i] for i in order]
    return shuffled[num_heldout:], shuffled[:num_heldout]


def fit(
    model: nn.Module,
    parameters: Sequence[nn.Parameter],
    examples: Sequence[Example],
    config: TrainConfig,
    progress: Progress,
    clock: Clock,
) -> None:
    """Runs `max_steps` of AdamW on `parameters`; the rest of the model is left alone."""
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, config))
    batches = endless_batches(examples, config.batch_size, config.seed)
    begin_s, num_tokens = clock(), 0
    model.eval()  # no dropout: a run is a function of its seed
    for step in range(1, config.max_steps + 1):
        batch = next(batches)
        loss = batch_loss(model, batch)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(parameters, config.max_gradient_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        num_tokens += batch.num_tokens
        progress(TrainStep(step, config.max_steps, loss.item(), num_tokens, clock() - begin_s))


def rate(step: int, config: TrainConfig) -> float:
    """The share of the learning rate at `step`, counted from 0."""
    if step < config.num_warmup_steps:
        return (step + 1) / config.num_warmup_steps
    if config.schedule == "constant":
        return 1.0
    num_left = max(1, config.max_steps - config.num_warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - config.num_warmup_steps) / num_left)))


def batch_loss(model: nn.Module, batch: TokenTensors) -> torch.Tensor:
    """Cross entropy, nats per target token, from logits of the positions that have a target."""
    targets = batch.labels[:, 1:]
    positions = (targets != IGNORED).any(dim=0).nonzero().squeeze(1)
    logits = model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        logits_to_keep=positions,
        use_cache=False,
    ).logits
    chosen = targets[:, positions].flatten()
    return functional.cross_entropy(logits.flatten(0, 1).float(), chosen, ignore_index=IGNORED)


@torch.no_grad()
def mean_loss(model: nn.Module, examples: Sequence[Example], batch_size: int) -> float:
    """Nats per target token over all the examples."""
    total, num_targets = 0.0, 0
    for begin in range(0, len(examples), batch_size):
        batch = collate(examples[begin : begin + batch_size])
        n = int((batch.labels[:, 1:] != IGNORED).sum())
        total += n * batch_loss(model, batch).item()
        num_targets += n
    return total / num_targets


def endless_batches(
    examples: Sequence[Example], batch_size: int, seed: int
) -> Iterator[TokenTensors]:
    """Batches from a fresh shuffle each epoch; the last of an epoch may be smaller."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(examples), generator=generator).tolist()
        for begin in range(0, len(order), batch_size):
            yield collate([examples[i] for i in order[begin : begin + batch_size]])


def _write(files: AdapterFiles, config: TrainConfig) -> int:
    weights, config_json = write_adapter(files, config.save_dtype)
    config.out_dir.mkdir(parents=True, exist_ok=True)
    (config.out_dir / "adapter_model.safetensors").write_bytes(weights)
    (config.out_dir / "adapter_config.json").write_bytes(config_json)
    return len(weights)
