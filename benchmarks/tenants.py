"""Question: are many tenants' adapters, trained in one batch and served in one, each its own?

Ten tenants, the domains of CLINC150, each with an adapter that names what a customer wants in the
tenant's own words. All ten are trained in one run over one frozen SmolLM2-135M-Instruct, published
on a real server, and asked in mixed batches: each tenant's intents with its own adapter, with the
next tenant's, and without one. The answer is free text, greedy, and right only if it is the
intent's name to the letter; since the base model cannot know the names, it is asked once more with
the answer restricted to the tenant's fifteen. Beside it: the time of the batched run against a run
for each tenant with the same steps (some are run, and their mean counts for all), and how far the
served log-probabilities are from those of plain transformers with the adapter in its weights.

Ceiling: every intent right with its own adapter, none with another's; a ten times shorter training
where a step of one tenant leaves the machine idle, hardly any where it keeps every core busy.
"""

import argparse
import asyncio
import time
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from app.api_client import ApiClient
from benchmarks.command import fast_folder, make_parser, prepare_engines
from benchmarks.intent_answers import Answers, ask_tenants
from benchmarks.intents import IntentTenant, read_tenants, write_lines
from benchmarks.offline_logprobs import OfflineLogprobs
from benchmarks.record import write_record
from benchmarks.served import served
from flora.recipe import Recipe
from flora.train import TrainReport, train
from flora.train_config import TrainConfig
from flora.train_progress import TrainProgressBar

SEED = 0
BATCH_SIZE = 8
QUESTION = "Are many tenants' adapters, trained in one batch and served in one, each its own?"
NUM_COMPARED = 2
"""Answers of each tenant that are computed again offline."""

Metrics = dict[str, float]
console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Trained:
    """Where the adapters are, and how long it took to make them."""

    folder: Path
    reports: list[TrainReport]
    batched_s: float
    separate_s: float


def train_all(args: argparse.Namespace, tenants: list[IntentTenant], folder: Path) -> Trained:
    """All tenants in one run, then `args.separate` of them each in a run of its own."""
    data, heldout = write_lines(tenants, folder)
    recipe = Recipe(max_steps=args.steps, batch_size=BATCH_SIZE, num_warmup_steps=5, seed=SEED)
    config = TrainConfig(
        args.model,
        (data,),
        folder / "adapters",
        heldout,
        compute_dtype="bfloat16",
        recipe=recipe,
    )
    reports, batched_s = timed_run(config, "ten tenants")
    separate_s = 0.0
    for tenant in tenants[: args.separate]:
        name = f"{tenant.name}.jsonl"
        alone = replace(
            config, data=(data / name,), out_dir=folder / "alone", heldout=heldout / name
        )
        separate_s += timed_run(alone, tenant.name)[1] / args.separate
    return Trained(config.out_dir, reports, batched_s, separate_s * len(tenants))


def timed_run(config: TrainConfig, name: str) -> tuple[list[TrainReport], float]:
    """One run from reading the data to the written adapters, in seconds."""
    began_s = time.perf_counter()
    with TrainProgressBar(name, console) as bar:
        reports = train(config, bar)
    elapsed_s = time.perf_counter() - began_s
    bar.report(reports)
    console.print(f"{name}: {elapsed_s:.1f} s")
    return reports, elapsed_s


def serve_all(
    args: argparse.Namespace, tenants: list[IntentTenant], trained: Trained, folder: Path
) -> Answers:
    """Publishes every adapter on a server of its own and asks it."""
    options = ("replica.dtype=float32", "replica.max_model_len_tokens=256")
    flags = [part for option in options for part in ("--set", option)]
    with served(args.model, folder, console, *flags) as url:
        with ApiClient(url) as api:
            for report in trained.reports:
                made = api.push(report.name, report.out_dir)
        base = made["id"].partition(":")[0]
        return asyncio.run(ask_tenants(url, base, tenants, console))


def summary(tenants: list[IntentTenant], trained: Trained, answers: Answers) -> Metrics:
    """Means over the tenants, times, and losses, beside each tenant's shares."""
    metrics = dict(answers.accuracies)
    for kind in answers.kinds:
        shares = [answers.accuracies[f"{kind}_accuracy_{tenant.name}"] for tenant in tenants]
        metrics[f"{kind}_accuracy_mean"] = sum(shares) / len(shares)
        metrics[f"{kind}_accuracy_min"] = min(shares)
        metrics[f"{kind}_accuracy_max"] = max(shares)
    before, after = (
        sum(getattr(r, f"heldout_loss_{when}") for r in trained.reports) / len(tenants)
        for when in ("before", "after")
    )
    return metrics | {
        "batched_run_s": trained.batched_s,
        "separate_runs_s": trained.separate_s,
        "separate_to_batched_time": trained.separate_s / trained.batched_s,
        "heldout_loss_before_nats": before,
        "heldout_loss_after_nats": after,
        "adapter_bytes": float(trained.reports[0].num_bytes),
    }


def served_logprob_max_diff(model: Path, trained: Trained, answers: Answers) -> float:
    """Between the server and plain transformers, over the first answers of every tenant."""
    offline = OfflineLogprobs(model)
    return max(
        offline.max_diff(report.out_dir, answers.own[report.name][:NUM_COMPARED])
        for report in trained.reports
    )


def verdict(metrics: Metrics) -> str:
    """What the means say, in one line."""
    return (
        f"{metrics['own_accuracy_mean']:.2f} of intents named right with a tenant's own adapter"
        f" ({metrics['own_accuracy_min']:.2f} to {metrics['own_accuracy_max']:.2f}),"
        f" {metrics['next_accuracy_mean']:.2f} with the next tenant's,"
        f" {metrics['base_accuracy_mean']:.2f} without one"
        f" ({metrics['base_choice_accuracy_mean']:.2f} if it may only choose among the fifteen);"
        f" ten separate runs take {metrics['separate_to_batched_time']:.2f} times the batched one;"
        f" served log-probabilities are within {metrics['served_logprob_max_diff']:.1e} of offline"
    )


def show(metrics: Metrics) -> None:
    """The numbers as a table for people."""
    table = Table("metric", "value")
    for name, value in metrics.items():
        table.add_row(name, f"{value:.4g}")
    Console().print(table)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = make_parser("tenants", __doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/intent_tenants"))
    parser.add_argument("--quick", action="store_true", help="a coarse answer")
    parser.add_argument("--steps", type=int, default=0, help="of every run (60; quick: 15)")
    parser.add_argument("--asked", type=int, default=0, help="utterances an intent (6; quick: 1)")
    parser.add_argument("--separate", type=int, default=0, help="separate runs (3; quick: 1)")
    args = parser.parse_args()
    args.steps = args.steps or (15 if args.quick else 60)
    args.asked = args.asked or (1 if args.quick else 6)
    args.separate = args.separate or (1 if args.quick else 3)
    return args


def main() -> None:
    """Train, serve, ask, record."""
    prepare_engines()
    args = parse()
    tenants = read_tenants(args.data, args.asked)
    with fast_folder() as folder:
        trained = train_all(args, tenants, folder)
        answers = serve_all(args, tenants, trained, folder)
        metrics = summary(tenants, trained, answers)
        diff = served_logprob_max_diff(args.model, trained, answers)
    metrics["served_logprob_max_diff"] = diff
    show(metrics)
    path = write_record(
        args.json,
        name="tenants",
        question=QUESTION,
        config={
            "tenants": [tenant.name for tenant in tenants],
            "steps": args.steps,
            "batch_size": BATCH_SIZE,
            "training_compute_dtype": "bfloat16",
            "serving_dtype": "float32",
            "asked_per_intent": args.asked,
            "separate_runs_timed": args.separate,
            "separate_runs_s": "the mean of those timed, times the number of tenants",
            "answer": "free text, greedy; right if it is the intent's name to the letter",
        },
        seed=SEED,
        warmup=0,
        repeats=1,
        metrics=metrics,
        ceiling="1.0 with the own adapter, 0.0 with another's",
        verdict=verdict(metrics),
    )
    console.print(f"record: {path}")


if __name__ == "__main__":
    main()
