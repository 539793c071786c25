"""From the LoRA's next-token distributions to the student's. Knows no files."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from contracts.errors import InvalidRequest
from flora.convert.dialogues import Dialogue, DialogueBatch, collate
from flora.convert.student import Student
from flora.eval.adapted_weights import Weights

Progress = Callable[[int, int, float], None]
"""Takes the step, the number of steps and the batch's divergence in nats a token."""


@dataclass(frozen=True, slots=True)
class DistilConfig:
    """AdamW with a linear warm-up and a cosine to zero; without a `learning_rate` the usual one of
    the rank. Raises InvalidRequest.
    """

    num_steps: int = 80
    batch_size: int = 8
    learning_rate: float | None = None
    num_warmup_steps: int = 5
    max_gradient_norm: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        has_rate = self.learning_rate is None or self.learning_rate > 0
        if self.num_steps < 0 or self.batch_size < 1 or not has_rate:
            raise InvalidRequest(
                "batch_size and learning_rate are positive, num_steps not negative"
            )


def usual_rate(rank: int) -> float:
    """Higher ranks start nearer to the LoRA, and longer steps would lead them away from it.

    From a LoRA of the demo data: at rank 4, 4e-3 ends behind the start, 1e-3 before it, 5e-4
    further.
    """
    return 4e-3 if rank == 1 else 2e-3 / rank


@dataclass(frozen=True, slots=True)
class Faithfulness:
    """How near a model comes to another one: nats a token, and how often first choices agree."""

    divergence: float
    agreement: float
    num_tokens: int


def distil(
    model: nn.Module,
    teacher: Weights,
    student: Student,
    dialogues: Sequence[Dialogue],
    config: DistilConfig,
    progress: Progress,
) -> None:
    """Lessens KL(teacher || student) over the answers. Trains the student's numbers alone."""
    rate = config.learning_rate or usual_rate(student.rank)
    optimizer = torch.optim.AdamW(student.parameters, lr=rate, weight_decay=0.0)
    warmup = torch.optim.lr_scheduler.LinearLR(
        optimizer, 1 / (config.num_warmup_steps + 1), total_iters=config.num_warmup_steps
    )
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, config.num_steps))
    schedule = torch.optim.lr_scheduler.ChainedScheduler([warmup, cosine])
    batches = _endless(dialogues, config.batch_size, config.seed)
    for step in range(1, config.num_steps + 1):
        batch = next(batches)
        with torch.no_grad():
            wanted = logits(model, teacher, batch)
        loss = divergence(wanted, logits(model, student.weights(), batch)) / len(wanted)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(student.parameters, config.max_gradient_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        progress(step, config.num_steps, loss.item())


@torch.no_grad()
def faithfulness(
    model: nn.Module,
    teacher: Weights,
    others: Mapping[str, Weights],
    dialogues: Sequence[Dialogue],
    batch_size: int,
) -> dict[str, Faithfulness]:
    """Each of `others` against the teacher, over all answers. Raises InvalidRequest on none."""
    sums = dict.fromkeys(others, 0.0)
    hits = dict.fromkeys(others, 0)
    num_tokens = 0
    for begin in range(0, len(dialogues), batch_size):
        batch = collate(dialogues[begin : begin + batch_size])
        wanted = logits(model, teacher, batch)
        num_tokens += len(wanted)
        for name, weights in others.items():
            found = logits(model, weights, batch)
            sums[name] += divergence(wanted, found).item()
            hits[name] += int((wanted.argmax(-1) == found.argmax(-1)).sum())
    if not num_tokens:
        raise InvalidRequest("no held-out answer has a token", "prompts")
    return {
        name: Faithfulness(sums[name] / num_tokens, hits[name] / num_tokens, num_tokens)
        for name in others
    }


def divergence(wanted: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    """KL(wanted || found) of logits [tokens, vocabulary], summed over tokens, in nats."""
    return functional.kl_div(
        found.log_softmax(-1), wanted.log_softmax(-1), reduction="sum", log_target=True
    )


def logits(model: nn.Module, weights: Mapping[str, torch.Tensor], batch: DialogueBatch) -> Any:
    """Float32 [compared tokens, vocabulary], with `weights` in the place of the model's own."""
    positions = batch.is_compared.any(dim=0).nonzero().squeeze(1)
    stored = {f"{name}.weight": _as_stored(model, name, w) for name, w in weights.items()}
    found = torch.func.functional_call(
        model,
        stored,
        (),
        {
            "input_ids": batch.input_ids,
            "attention_mask": batch.attention_mask,
            "logits_to_keep": positions,
            "use_cache": False,
        },
    )
    return found.logits[batch.is_compared[:, positions]].float()


def _as_stored(model: nn.Module, name: str, weight: torch.Tensor) -> torch.Tensor:
    linear: Any = model.get_submodule(name)
    return (weight.T if isinstance(linear, Conv1D) else weight).to(linear.weight.dtype)


def _endless(dialogues: Sequence[Dialogue], size: int, seed: int) -> Iterator[DialogueBatch]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(dialogues), generator=generator).tolist()
        for begin in range(0, len(order), size):
            yield collate([dialogues[i] for i in order[begin : begin + size]])
