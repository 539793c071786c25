"""One training run of one method of adaptation, and what it is worth on unseen programs."""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import IA3Config, LoraConfig, PeftConfig, get_peft_model
from torch.nn import functional
from transformers import AutoModelForCausalLM

from benchmarks.code_texts import Blocks, CodeTexts
from flora.peft import FloraConfig

ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
_QK = ["q_proj", "k_proj"]
_WARMUP = 0.1
_BATCH_EVAL = 8


@dataclass(frozen=True, slots=True)
class Run:
    """What makes a run. Batches of `batch_size` blocks; AdamW without decay, gradients clipped at
    1, a warm-up over a tenth of the steps and then a cosine to zero, whatever the method.

    The frozen model computes in `dtype`; every method's parameters are float32.
    """

    language: str
    method: str
    learning_rate: float
    seed: int
    steps: int
    batch_size: int
    dtype: str = "bfloat16"

    @property
    def name(self) -> str:
        """Of a folder."""
        return f"{self.language}-{self.method}-{self.learning_rate:g}-{self.seed}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Bits per byte on programs that were held out, and what the run took."""

    validation_bpb: float
    test_bpb: float
    num_parameters: int
    seconds: float


def adapter_config(method: str) -> PeftConfig | None:
    """PEFT's own LoRA and IA3, and fLoRA through PEFT, on the same layers; None for the base."""
    kind, _, variant = method.partition("-")
    targets = _QK if variant == "qk" else ALL_LINEAR
    if kind == "base":
        return None
    if kind == "ia3":
        # Scales what feeds the last product of the MLP, and what leaves every other one.
        feedforward = [name for name in targets if name == "down_proj"]
        return IA3Config(target_modules=targets, feedforward_modules=feedforward)
    rank = int(kind.lstrip("abcdefghijklmnopqrstuvwxyz"))
    if kind.startswith("lora"):
        return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets)
    return FloraConfig(r=rank, target_modules=targets, tie_inputs=variant == "tied")


def train(run: Run, texts: CodeTexts, model_dir: Path, adapters_dir: Path) -> Outcome:
    """A function of the run, the texts and the model, on one machine.

    The adapter is written to `adapters_dir`, in a folder with the run's name.
    """
    torch.manual_seed(run.seed)
    model: Any = AutoModelForCausalLM.from_pretrained(model_dir, dtype=getattr(torch, run.dtype))
    config = adapter_config(run.method)
    begin_s = time.perf_counter()
    if config is not None:
        model = get_peft_model(model, config)
        _fit(model, texts.train, run)
        model.save_pretrained(adapters_dir / run.name)
    parameters = [p for p in model.parameters() if p.requires_grad]
    seconds = time.perf_counter() - begin_s
    return Outcome(
        bits_per_byte(model, texts.validation),
        bits_per_byte(model, texts.test),
        sum(p.numel() for p in parameters) if config is not None else 0,
        seconds,
    )


def _fit(model: Any, blocks: Blocks, run: Run) -> None:
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=run.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, run.steps))
    batches = _endless(blocks.ids, run.batch_size, run.seed)
    model.eval()  # no dropout
    for _ in range(run.steps):
        loss = _nats(model, next(batches)).mean()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


def _rate(step: int, steps: int) -> float:
    warmup = max(1, round(_WARMUP * steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _endless(ids: torch.Tensor, batch_size: int, seed: int) -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    left = torch.empty(0, dtype=torch.long)
    while True:
        while len(left) < batch_size:
            left = torch.cat([left, torch.randperm(len(ids), generator=generator)])
        yield ids[left[:batch_size]]
        left = left[batch_size:]


def _nats(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """[blocks, length]: the cross entropy of each token but the first."""
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits
    # Rows of logits side by side: across them a CPU takes ten times as long.
    labels = ids[:, 1:]
    losses = functional.cross_entropy(
        logits.float().flatten(0, 1), labels.flatten(), reduction="none"
    )
    return losses.view_as(labels)


@torch.no_grad()
def bits_per_byte(model: Any, blocks: Blocks) -> float:
    """Of the text that the blocks predict."""
    batches = torch.split(blocks.ids, _BATCH_EVAL)
    total = math.fsum(_nats(model, batch).sum().item() for batch in batches)
    return total / math.log(2) / blocks.num_bytes


class Journal:
    """Outcomes of runs by what made them, in a file of JSON lines: no run is run twice."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[Run, Outcome] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                parts = json.loads(line)
                self._known[Run(**parts["run"])] = Outcome(**parts["outcome"])

    def get(self, run: Run) -> Outcome | None:
        return self._known.get(run)

    def put(self, run: Run, outcome: Outcome) -> None:
        self._known[run] = outcome
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps({"run": asdict(run), "outcome": asdict(outcome)}) + "\n")
