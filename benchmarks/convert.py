"""Question: how much of a trained LoRA does fLoRA of rank 1, 2 and 4 keep, without labels?

Three LoRAs of rank 8 on the attention's linear layers are trained on the demo data and converted by
their answers to the training prompts alone. Measured on held-out prompts (share of the LoRA's
effect) and held-out labels (share of its gain in loss), against fLoRA of rank 1 trained on the
labels for as long. Ceiling: 1.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.command import make_parser
from benchmarks.record import write_record
from flora.convert.conversion import Conversion, ConvertConfig
from flora.convert.dialogues import Dialogue, collate
from flora.convert.distil import DistilConfig, logits
from flora.convert.student import Student
from flora.demo.build_data import DATA_DIR
from flora.eval.adapted_weights import Weights, base_weight, flora_weights
from flora.linear import linear_modules

SEED = 0
LORA_RANK, LORA_ALPHA = 8, 16
LORA_RATE, FLORA_RATE = 1e-3, 8e-3
BATCH_SIZE = 4
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")
PROMPTS, ANSWER_TOKENS = 64, 20
NUM_HELDOUT = 16
console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Sizes:
    """What fits into the time."""

    names: tuple[str, ...] = ("pirate", "shout", "json")
    ranks: tuple[int, ...] = (1, 2, 4)
    lora_steps: int = 24
    distil_steps: int = 24

    @property
    def scratch_steps(self) -> int:
        """A step of distillation also runs the LoRA: forward, which is a third of a step more."""
        return round(self.distil_steps * 4 / 3)


QUICK = Sizes(("pirate",), lora_steps=16, distil_steps=6)


class LoraPupil(nn.Module):
    """A LoRA of the attention's linear layers while it is trained."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        linears = linear_modules(model)
        self._linears = {n: m for n, m in linears.items() if n.endswith(TARGETS)}
        generator = torch.Generator().manual_seed(SEED)
        self.a, self.b = {}, {}
        for name, linear in self._linears.items():
            out_features, in_features = base_weight(linear).shape
            start = torch.randn(LORA_RANK, in_features, generator=generator)
            self.a[name] = nn.Parameter(start / in_features**0.5)
            self.b[name] = nn.Parameter(torch.zeros(out_features, LORA_RANK))

    @property
    def numbers(self) -> list[nn.Parameter]:
        """Every A and B."""
        return [*self.a.values(), *self.b.values()]

    def weights(self) -> Weights:
        """W + alpha / r * B A, differentiable."""
        scaling = LORA_ALPHA / LORA_RANK
        return {
            name: base_weight(linear) + scaling * (self.b[name] @ self.a[name])
            for name, linear in self._linears.items()
        }

    def save(self, folder: Path) -> None:
        """As PEFT saves it."""
        both = {f"{name}.lora_A": a for name, a in self.a.items()}
        both |= {f"{name}.lora_B": b for name, b in self.b.items()}
        tensors = {f"base_model.model.{n}.weight": t.detach() for n, t in both.items()}
        save_file(tensors, folder / "adapter_model.safetensors")
        config = {"peft_type": "LORA", "r": LORA_RANK, "lora_alpha": LORA_ALPHA}
        (folder / "adapter_config.json").write_text(json.dumps(config))


def labelled(path: Path, tokenizer: Any) -> list[Dialogue]:
    """The demo's questions with the answers that an adapter is to give."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        messages = json.loads(line)["messages"]
        asked = tokenizer.apply_chat_template(
            messages[:1], tokenize=False, add_generation_prompt=True
        )
        given = tokenizer(asked, add_special_tokens=False)["input_ids"]
        said = tokenizer(messages[1]["content"], add_special_tokens=False)["input_ids"]
        found.append(Dialogue((*given, *said, tokenizer.eos_token_id), len(given)))
    return found


def label_loss(model: nn.Module, weights: Weights, dialogues: Sequence[Dialogue]) -> torch.Tensor:
    """Nats a token of the labels."""
    batch = collate(dialogues)
    labels = batch.input_ids.roll(-1, dims=1)[batch.is_compared]
    return functional.cross_entropy(logits(model, weights, batch), labels)


def train(
    model: nn.Module,
    numbers: Sequence[nn.Parameter],
    weights: Callable[[], Weights],
    dialogues: Sequence[Dialogue],
    num_steps: int,
    rate: float,
) -> None:
    """AdamW on the labels with a cosine to zero."""
    optimizer = torch.optim.AdamW(numbers, lr=rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    batches = batches_of(dialogues)
    for _ in range(num_steps):
        torch.autograd.backward(label_loss(model, weights(), next(batches)))
        nn.utils.clip_grad_norm_(numbers, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


def batches_of(dialogues: Sequence[Dialogue]) -> Iterator[list[Dialogue]]:
    """Endless, from a fresh shuffle each epoch."""
    generator = torch.Generator().manual_seed(SEED)
    while True:
        order = torch.randperm(len(dialogues), generator=generator).tolist()
        for begin in range(0, len(order), BATCH_SIZE):
            yield [dialogues[i] for i in order[begin : begin + BATCH_SIZE]]


def measure(name: str, model_dir: Path, sizes: Sizes, folder: Path) -> dict[str, float]:
    """All figures of one adapter."""
    tokenizer: Any = AutoTokenizer.from_pretrained(model_dir)
    model: Any = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    model.eval().requires_grad_(False)
    dialogues = labelled(DATA_DIR / f"{name}.jsonl", tokenizer)
    learned, heldout = dialogues[NUM_HELDOUT:], dialogues[:NUM_HELDOUT]

    @torch.no_grad()
    def loss(weights: Weights) -> float:
        return label_loss(model, weights, heldout).item()

    pupil = LoraPupil(model)
    began_s = perf_counter()
    train(model, pupil.numbers, pupil.weights, learned, sizes.lora_steps, LORA_RATE)
    found = {"base_loss": loss({}), "lora_loss": loss(pupil.weights())}
    found["lora_train_s"] = perf_counter() - began_s
    pupil.save(folder)
    prompts = folder / "prompts.jsonl"
    lines = (DATA_DIR / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    prompts.write_text("\n".join(lines[NUM_HELDOUT:]), encoding="utf-8")
    began_s = perf_counter()
    config = ConvertConfig(
        model_dir, folder, prompts, num_prompts=PROMPTS, answer_tokens=ANSWER_TOKENS, seed=SEED
    )
    conversion = Conversion(config, lambda text: None)
    found["prepare_s"] = perf_counter() - began_s
    for rank in sizes.ranks:
        console.log(f"{name}: rank {rank}")
        found |= convert(conversion, rank, sizes, loss)
    scratch = Student(model, list(pupil.a), 1)
    began_s = perf_counter()
    train(model, scratch.parameters, scratch.weights, learned, sizes.scratch_steps, FLORA_RATE)
    found["scratch_r1_s"] = perf_counter() - began_s
    found["scratch_r1_loss"] = loss(scratch.weights())
    return with_gains(found)


def convert(
    conversion: Conversion, rank: int, sizes: Sizes, loss: Callable[[Weights], float]
) -> dict[str, float]:
    """One rank's figures."""
    began_s = perf_counter()
    distilling = DistilConfig(sizes.distil_steps, BATCH_SIZE, seed=SEED)
    files, kept = conversion.derive(rank, distilling, lambda *step: None)
    return {
        f"r{rank}_share": kept.share,
        f"r{rank}_start_share": kept.start_share,
        f"r{rank}_agreement": kept.agreement,
        f"r{rank}_base_agreement": kept.base_agreement,
        f"r{rank}_loss": loss(flora_weights(conversion.model, files)),
        f"r{rank}_s": perf_counter() - began_s,
    }


def with_gains(found: Mapping[str, float]) -> dict[str, float]:
    """The share of the LoRA's gain on labels that each adapter has."""
    gain = found["base_loss"] - found["lora_loss"]
    losses = {n.removesuffix("_loss"): v for n, v in found.items() if n.endswith("_loss")}
    gains = {
        f"{n}_gain_share": (found["base_loss"] - v) / gain
        for n, v in losses.items()
        if n not in ("base", "lora")
    }
    return {**found, **gains}


def table_of(found: Mapping[str, Mapping[str, float]], sizes: Sizes) -> Table:
    """A row an adapter and rank."""
    titles = ("LoRA", "fLoRA", "share, closed form", "share, distilled", "same token", "label gain")
    table = Table(*titles, "seconds")
    for name, figures in found.items():
        for rank in sizes.ranks:
            keys = ("start_share", "share", "agreement", "gain_share")
            cells = [f"{figures[f'r{rank}_{key}']:.3f}" for key in keys]
            table.add_row(name, f"rank {rank}", *cells, f"{figures[f'r{rank}_s']:.0f}")
        gain, time_s = figures["scratch_r1_gain_share"], figures["scratch_r1_s"]
        table.add_row(name, "rank 1, labels", "", "", "", f"{gain:.3f}", f"{time_s:.0f}")
    return table


def verdict_of(found: Mapping[str, Mapping[str, float]], sizes: Sizes) -> str:
    """Means over the adapters."""

    def mean(key: str) -> float:
        return sum(figures[key] for figures in found.values()) / len(found)

    ranks = "; ".join(
        f"rank {rank}: {mean(f'r{rank}_share'):.2f} of the LoRA's effect"
        f" ({mean(f'r{rank}_start_share'):.2f} by the closed form),"
        f" {mean(f'r{rank}_gain_share'):.2f} of its gain on labels"
        for rank in sizes.ranks
    )
    scratch = mean("scratch_r1_gain_share")
    return f"{ranks}; trained on labels for as long, rank 1: {scratch:.2f} of the gain"


def parse() -> argparse.Namespace:
    """The command line."""
    parser = make_parser("convert", __doc__)
    parser.add_argument("--quick", action="store_true", help="one adapter, few steps")
    return parser.parse_args()


def main() -> None:
    """Measure, show, record."""
    args = parse()
    sizes = QUICK if args.quick else Sizes()
    found = {}
    for name in sizes.names:
        console.log(f"{name}: training the LoRA")
        with tempfile.TemporaryDirectory() as folder:
            found[name] = measure(name, args.model, sizes, Path(folder))
    Console(width=110).print(table_of(found, sizes))
    path = write_record(
        args.json,
        name="convert",
        question="How much of a trained LoRA does fLoRA keep without labels?",
        config={"ranks": sizes.ranks, "lora_rank": LORA_RANK, "batch_size": BATCH_SIZE}
        | {"lora_steps": sizes.lora_steps, "distil_steps": sizes.distil_steps}
        | {"scratch_steps": sizes.scratch_steps, "num_heldout": NUM_HELDOUT}
        | {"num_prompts": PROMPTS, "answer_tokens": ANSWER_TOKENS, "targets": TARGETS},
        seed=SEED,
        warmup=0,
        repeats=1,
        metrics={
            f"{n}_{key}": value for n, figures in found.items() for key, value in figures.items()
        },
        ceiling="1: the adapter is the LoRA",
        verdict=verdict_of(found, sizes),
    )
    console.print(f"record: {path}")


if __name__ == "__main__":
    main()
