"""Question: what does an adapter of one vector pair a layer gain in a language that Whisper base is
weak in (Russian), or knows well (English), and how does it compare with LoRA and IA3?

Telephone prompts, read by one speaker; every sentence is on one side only of training,
validation and held-out clips. All methods adapt the same linear layers of the decoder for the same
steps on the same batches; the learning rate of each is the one of a grid that has the lowest
validation loss with the first seed. The measure is the word error rate of greedy transcripts of the
held-out clips. Ceiling: an error rate of 0.
"""

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.command import make_parser
from benchmarks.record import Spread, summarise, write_record
from benchmarks.speech_methods import METHODS
from benchmarks.speech_runs import Run, SpeechRuns
from flora.recipe import Recipe

QUESTION = "What does fLoRA gain on speech, beside LoRA and IA3?"
PROMPTS = "../shared/data/speech_telephone_prompts/asterisk-core-sounds-{language}-wav.tsv"
RATES: Mapping[str, Sequence[float]] = {
    "flora_r1": (4e-3, 1e-2, 3e-2),
    "lora_r1": (1e-3, 3e-3, 1e-2),
    "lora_r8": (3e-4, 1e-3, 3e-3),
    "ia3": (1e-2, 3e-2, 1e-1),
}
BATCH_SIZE = 4
NUM_STEPS, NUM_QUICK_STEPS = 40, 15
DEFAULT_METHODS = ("flora_r1", "lora_r1", "ia3")

Metrics = dict[str, float]
console = Console(stderr=True)


def measure(runs: SpeechRuns, args: argparse.Namespace) -> tuple[Metrics, dict[str, list[float]]]:
    """What is known once, and samples: a value a seed."""
    once: Metrics = {"base_wer": runs.base_error_rate()}
    console.print(f"base: word error rate {once['base_wer']:.3f}")
    samples: dict[str, list[float]] = defaultdict(list)

    def train(method: str, rate: float, seed: int) -> Run:
        recipe = Recipe(max_steps=args.steps, batch_size=BATCH_SIZE, learning_rate=rate, seed=seed)
        run = runs.train(method, recipe)
        samples[f"{method}_train_s"].append(run.train_s)
        console.print(
            f"{method} {rate:g} seed {seed}: validation loss {run.validation_loss:.3f},"
            f" word error rate {run.word_error_rate:.3f}, {run.train_s:.0f} s"
        )
        return run

    for method in args.methods:
        rates = RATES[method][1:2] if args.quick else RATES[method]
        tried = {rate: train(method, rate, args.seed) for rate in rates}
        best = min(tried, key=lambda rate: tried[rate].validation_loss)
        more = range(args.seed + 1, args.seed + args.seeds)
        chosen = [tried[best], *(train(method, best, seed) for seed in more)]
        once[f"{method}_learning_rate"] = best
        once[f"{method}_parameters"] = float(chosen[0].num_parameters)
        samples[f"{method}_wer"] = [run.word_error_rate for run in chosen]
        samples[f"{method}_validation_loss"] = [run.validation_loss for run in chosen]
    return once, samples


def show(metrics: Metrics, spread: Mapping[str, Spread], methods: Sequence[str]) -> None:
    """A row a method, for people."""
    table = Table("method", "parameters", "learning rate", "word error rate", "from", "to")
    table.add_row("base", "0", "", f"{metrics['base_wer']:.3f}", "", "")
    for name in methods:
        errors = spread[f"{name}_wer"]
        table.add_row(
            name,
            f"{metrics[f'{name}_parameters']:,.0f}",
            f"{metrics[f'{name}_learning_rate']:g}",
            f"{errors.median:.3f}",
            f"{errors.min:.3f}",
            f"{errors.max:.3f}",
        )
    Console().print(table)


def verdict(metrics: Metrics, methods: Sequence[str]) -> str:
    """All error rates in one line."""
    found = ", ".join(
        f"{name} {metrics[f'{name}_wer']:.3f} ({metrics[f'{name}_parameters']:,.0f} parameters)"
        for name in methods
    )
    return f"held-out word error rate {metrics['base_wer']:.3f} without an adapter; {found}"


def parse() -> argparse.Namespace:
    """The command line."""
    parser = make_parser("speech", __doc__, model=False)
    parser.add_argument("--model", type=Path, default=Path("models/whisper-base"))
    parser.add_argument("--language", choices=("ru", "en"), default="ru", help="of the prompts")
    parser.add_argument("--clips", type=Path, help="another table of clips of that language")
    parser.add_argument("--audio-root", type=Path, default=Path("data/asterisk"))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(DEFAULT_METHODS))
    parser.add_argument("--steps", type=int, help="of each adapter")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="few clips, one rate, one seed")
    args = parser.parse_args()
    args.steps = args.steps or (NUM_QUICK_STEPS if args.quick else NUM_STEPS)
    args.clips = args.clips or Path(PROMPTS.format(language=args.language))
    args.seeds = 1 if args.quick else args.seeds
    return args


def main() -> None:
    """Measure, show, record."""
    args = parse()
    runs = SpeechRuns(args.model, args.clips, args.audio_root, args.seed, is_quick=args.quick)
    counts = [len(part) for part in (runs.learned, runs.validation, runs.heldout)]
    once, samples = measure(runs, args)
    medians, spread = summarise(samples)
    metrics = once | medians
    show(metrics, spread, args.methods)
    path = write_record(
        args.json,
        name=f"speech-{args.language}",
        question=QUESTION,
        config={
            "model": args.model.name,
            "clips": args.clips.stem,
            "num_learned": counts[0],
            "num_validation": counts[1],
            "num_heldout": counts[2],
            "steps": args.steps,
            "batch_size": BATCH_SIZE,
            "part": "decoder",
            "learning_rates": {name: list(RATES[name]) for name in args.methods},
            "quick": args.quick,
        },
        seed=args.seed,
        warmup=0,
        repeats=args.seeds,
        metrics=metrics,
        spread=spread,
        ceiling="a word error rate of 0",
        verdict=verdict(metrics, args.methods),
    )
    console.print(f"record: {path}")


if __name__ == "__main__":
    main()
