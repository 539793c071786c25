"""Question: do more programs pass their tests when an adapter has learned the language?

The adapters that `flora bench methods` has trained (first seed, the rate that its record names) are
published on a real server: fLoRA as it is, IA3 imported exactly as fLoRA, LoRA beside them. All of
them and the base model then write the first problems of MultiPL-E's HumanEval in their languages,
in mixed batches; each program runs in a sandbox. pass@1 over all samples, and its standard error
over problems. The training texts hold no problem of HumanEval.
Ceiling: 1; what a model of this size can reach is the best of its column.
"""

import argparse
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.table import Table

from app.api_client import ApiClient
from app.eval_client import ServedSubject
from benchmarks.command import fast_folder, make_parser, prepare_engines
from benchmarks.method_runs import Run
from benchmarks.methods import GRIDS
from benchmarks.record import RESULTS, write_record
from benchmarks.served import served
from flora.adapter_config import AdapterLimits
from flora.eval.multipl_e import read_problems, require_usable
from flora.eval.sandbox import Sandbox
from flora.eval.subject import Drawing
from flora.eval.tasks import Finding, pass_rates
from flora.eval.toolchains import find_toolchain
from flora.importers.importer import import_folder
from flora.importers.source import Source

QUESTION = "Do more programs pass their tests when an adapter has learned the language?"
EXTENSIONS = {"perl": "pl", "ruby": "rb", "lua": "lua", "d": "d", "rust": "rs", "racket": "rkt"}
SEED = 0
TEMPERATURE, TOP_P = 0.1, 0.95
MAX_TOKENS = 256
Cell = tuple[str, str]
"""A language, and a method or "base"."""
console = Console(stderr=True)


def folder_of(args: argparse.Namespace, language: str, method: str) -> Path:
    """Where the methods benchmark left that adapter."""
    record = json.loads(args.record.read_text(encoding="utf-8"))
    rate = record["metrics"][f"{language}_{method}_learning_rate"]
    name = Run(language, method, rate, SEED, 0, 0).name
    return Path(args.adapters) / name


def publish(args: argparse.Namespace, url: str, folder: Path) -> str:
    """All adapters, each as "language-method". Returns what clients call the base model."""
    with ApiClient(url) as api:
        for language in args.languages:
            for method in GRIDS:
                source = folder_of(args, language, method)
                if method == "ia3":
                    made = folder / source.name
                    found = Source.open(source, AdapterLimits())
                    import_folder(found, args.model, made, "float32", AdapterLimits())
                    source = made
                entry = api.push(f"{language}-{method}", source)
    return str(entry["id"]).partition(":")[0]


def judge_all(args: argparse.Namespace, url: str, base: str) -> dict[Cell, Finding]:
    """Every language by every method at the same time: a batch holds adapters of all of them."""
    runner = Sandbox("namespaces")
    runner.require()
    drawing = Drawing(MAX_TOKENS, TEMPERATURE, TOP_P, args.samples, seed=SEED)

    def judge(cell: Cell) -> Finding:
        language, method = cell
        extension = EXTENSIONS[language]
        toolchain = require_usable(extension, find_toolchain(extension), runner)
        problems = read_problems(args.data, extension, args.limit)
        model = base if method == "base" else f"{base}:{language}-{method}"
        finding = pass_rates(ServedSubject(url, "", model), problems, toolchain, runner, drawing)
        rate = finding.estimates["pass@1"]
        console.print(f"{language} {method}: {rate.value:.3f} ± {rate.standard_error:.3f}")
        return finding

    cells = [(language, method) for language in args.languages for method in ("base", *GRIDS)]
    with ThreadPoolExecutor(len(cells)) as pool:
        return dict(zip(cells, pool.map(judge, cells), strict=True))


def metrics_of(found: Mapping[Cell, Finding]) -> dict[str, float]:
    """pass@1 and its standard error, by language and method, and the means over languages."""
    metrics: dict[str, float] = {}
    for (language, method), finding in found.items():
        rate = finding.estimates["pass@1"]
        metrics[f"{language}_{method}_pass_at_1"] = rate.value
        metrics[f"{language}_{method}_standard_error"] = rate.standard_error
    languages = {language for language, _ in found}
    for method in ("base", *GRIDS):
        rates = [metrics[f"{language}_{method}_pass_at_1"] for language in languages]
        metrics[f"{method}_mean"] = sum(rates) / len(rates)
    return metrics


def verdict_of(metrics: Mapping[str, float]) -> str:
    """The means over the languages."""
    means = ", ".join(f"{name} {metrics[f'{name}_mean']:.3f}" for name in ("base", *GRIDS))
    return f"pass@1, mean over the languages: {means}"


def show(metrics: Mapping[str, float], languages: list[str]) -> None:
    """A row a language."""
    methods = ("base", *GRIDS)
    table = Table("pass@1", *methods)
    for language in languages:
        cells = [
            f"{metrics[f'{language}_{method}_pass_at_1']:.3f}"
            f" ± {metrics[f'{language}_{method}_standard_error']:.3f}"
            for method in methods
        ]
        table.add_row(language, *cells)
    Console().print(table)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = make_parser("programs", __doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/multipl_e_humaneval"))
    parser.add_argument("--record", type=Path, default=RESULTS / "methods.json")
    parser.add_argument("--adapters", type=Path, default=RESULTS / "scratch" / "methods")
    parser.add_argument("--languages", nargs="+", choices=EXTENSIONS, default=["perl", "ruby"])
    parser.add_argument("--limit", type=int, default=60, help="problems of each language")
    parser.add_argument("--samples", type=int, default=2, help="of each problem")
    return parser.parse_args()


def main() -> None:
    """Serve, ask, run, record."""
    args = parse()
    prepare_engines()
    options = ("replica.lora_rank=8", f"replica.lora_slots={2 * len(args.languages)}")
    flags = [part for option in options for part in ("--set", option)]
    with fast_folder() as folder, served(args.model, folder, console, *flags) as url:
        found = judge_all(args, url, publish(args, url, folder))
    metrics = metrics_of(found)
    show(metrics, args.languages)
    path = write_record(
        args.json,
        name="programs",
        question=QUESTION,
        config={
            "model": args.model.name,
            "languages": args.languages,
            "problems": args.limit,
            "samples": args.samples,
            "temperature": TEMPERATURE,
            "top_p": TOP_P,
            "max_tokens": MAX_TOKENS,
        },
        seed=SEED,
        warmup=0,
        repeats=1,
        metrics=metrics,
        spread={},
        ceiling="1; what a model of this size can reach is the best of its column",
        verdict=verdict_of(metrics),
    )
    console.print(f"record: {path}")


if __name__ == "__main__":
    main()
