"""Question: does all that needs a GPU work on this machine, and how fast is it?

Runs every test that is marked `cuda` and every benchmark that has a GPU target, one after another,
each in a process of its own that ends within ten minutes. What each one said goes to `--out`: its
log, its JSON record or its JUnit report, and `suite.json`, which says of every step how it ended.
A second call with `--steps` runs single ones again and keeps what the others left.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.machine import read_hardware, read_versions
from benchmarks.record import ROOT, read_checkout

LIMIT_S = 590.0
_GRACE_S = 10.0

console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Step:
    """One command, without its interpreter and without where its results go."""

    name: str
    module: str
    arguments: tuple[str, ...]

    def command(self, out: Path, model: Path) -> list[str]:
        """What to run; its result is `out`/NAME.xml for tests and `out`/NAME.json else."""
        if self.module == "pytest":
            where = ("--junitxml", str(out / f"{self.name}.xml"))
        else:
            where = ("--json", str(out / f"{self.name}.json"))
        filled = [argument.format(model=model, out=out) for argument in self.arguments]
        return [sys.executable, "-m", self.module, *filled, *where]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a step ended: `status` is "passed", "failed" or "late"."""

    name: str
    command: str
    status: str
    wall_s: float
    finished_at_s: float


def _tests(name: str, *arguments: str) -> Step:
    return Step(name, "pytest", ("-m", "cuda", *arguments))


def _engine(name: str, *arguments: str) -> Step:
    shared = ("--model", "{model}", "--sequences", "256", "--rounds", "2", "--kv-cache-gib", "6")
    return Step(name, "benchmarks.engine", (*shared, *arguments))


_CUDA_TESTS = "tests/replicas/cuda"
_ON_GPU = ("--device", "cuda")
STEPS = (
    _tests("tests-kernels", f"{_CUDA_TESTS}/test_kernels.py", f"{_CUDA_TESTS}/test_copies.py"),
    _tests("tests-engine-triton", f"{_CUDA_TESTS}/test_engine.py", "-k", "triton"),
    _tests("tests-engine-plain", f"{_CUDA_TESTS}/test_engine.py", "-k", "plain"),
    _tests("tests-engine-int8", f"{_CUDA_TESTS}/test_engine.py", "-k", "int8"),
    Step("kernels-cuda", "benchmarks.kernels", _ON_GPU),
    Step("kernels-cuda-small", "benchmarks.kernels", (*_ON_GPU, "--shape", "smollm2-135m")),
    Step("activation-cuda", "benchmarks.activation", _ON_GPU),
    _engine("engine-triton", "--mode", "compiled", "--kernel", "triton", "--lora-ranks"),
    _engine("engine-plain", "--mode", "compiled", "--kernel", "plain", "--lora-ranks"),
    _engine("engine-lora", "--mode", "compiled", "--lora-ranks", "8"),
    Step("stall-cuda", "benchmarks.stall", ("--model", "{model}", "--rounds", "2")),
    Step("cold-start-cuda", "benchmarks.cold_start", ("--model", "{model}")),
    Step(
        "paper-gpu",
        "benchmarks.paper",
        ("--scale", "gpu", "--limit-s", "480", "--journal", "{out}/paper-journal.json"),
    ),
)


def run(step: Step, out: Path, model: Path, limit_s: float = LIMIT_S) -> Outcome:
    """One step to its end; what is late is ended with all that it started."""
    command = step.command(out, model)
    started_s = time.monotonic()
    with (out / f"{step.name}.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            status = "failed" if process.wait(limit_s) else "passed"
        except subprocess.TimeoutExpired:
            status = "late"
        finally:
            end_group(process)
    wall_s = round(time.monotonic() - started_s, 1)
    return Outcome(step.name, " ".join(command[1:]), status, wall_s, time.time())


def end_group(process: "subprocess.Popen[bytes]") -> None:
    """End a process and whatever engines it left, kindly first."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(_GRACE_S)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def choose(names: Sequence[str]) -> list[Step]:
    """The steps of these names, all for none. Raises ValueError for an unknown one."""
    known = {step.name: step for step in STEPS}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"no step {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names] or list(STEPS)


def save(out: Path, outcome: Outcome) -> None:
    """Add a step to the summary, in place of an earlier run of it."""
    path = out / "suite.json"
    outcomes = json.loads(path.read_text())["steps"] if path.exists() else {}
    outcomes[outcome.name] = asdict(outcome)
    summary = {
        **asdict(read_checkout()),
        "hardware": asdict(read_hardware()),
        "versions": read_versions(),
        "steps": outcomes,
    }
    path.write_text(json.dumps(summary, indent=2) + "\n")


def show(outcomes: list[Outcome], out: Path) -> None:
    """How the steps ended, as a table for people."""
    table = Table("step", "status", "seconds", title=f"results in {out}")
    for outcome in outcomes:
        table.add_row(outcome.name, outcome.status, f"{outcome.wall_s:.0f}")
    Console().print(table)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="flora bench gpu-suite", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/scratch/gpu")
    parser.add_argument("--model", type=Path, default=Path("models/smollm2-135m-instruct"))
    parser.add_argument("--steps", nargs="*", default=[], help="some of them; all by default")
    parser.add_argument("--list", action="store_true", help="name the steps and run none")
    return parser.parse_args(arguments)


def main() -> None:
    """Run the steps; the exit status says whether all of them passed."""
    args = parse()
    try:
        steps = choose(args.steps)
    except ValueError as error:
        sys.exit(str(error))
    if args.list:
        print("\n".join(step.name for step in steps))
        return
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    outcomes = []
    for step in steps:
        console.print(f"{step.name} ...")
        outcomes.append(run(step, out, args.model))
        save(out, outcomes[-1])
    show(outcomes, out)
    sys.exit(any(outcome.status != "passed" for outcome in outcomes))


if __name__ == "__main__":
    main()
