"""Question: what do clients get of an open load, from us and from others?

Starts one server after the other, ours and peers of `flora bench stack`, each with 32 adapters,
puts every shape of load on it with `python -m loadtest`, and sets the reports of one shape side by
side. The load generator runs on the server's cores, and is the same for all. Options that are not
listed here go to the load test: `flora bench load --shapes soak --servers flora --publish 8`.

There is no record of its own: each run has its report and record in the folder `--report`.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from app.config import Settings
from benchmarks.command import fast_folder, make_parser, prepare_engines
from benchmarks.llama_layout import llama_layout
from benchmarks.peers import MODEL_NAME, cause_of
from benchmarks.stack_servers import Server, servers
from benchmarks.stack_sides import ServerSide

SHAPES = ("poisson-8", "poisson-15")
SERVERS = ("flora", "vllm_serve_lora_r8")
MAX_RANK = 4
console = Console(stderr=True)


def run(args: argparse.Namespace, folder: Path) -> int:
    """Every server with every shape; the worst exit code of the load tests of our own server."""
    replica = Settings().replica
    layout = llama_layout(args.model, "bfloat16", max_rank=MAX_RANK)
    found = servers(
        args.model, replica.max_num_seqs, layout, console, packages=args.packages, quick=False
    )
    worst = 0
    for server in (server for server in found if server.name in args.servers):
        try:
            with server.start(folder / server.name) as (url, sides):
                side = sides[0]
                assert isinstance(side, ServerSide)
                base = args.model.name.lower() if server.is_ours else MODEL_NAME
                codes = [load(args, server, url, base, side.models, s) for s in args.shapes]
        except (RuntimeError, TimeoutError) as error:
            if server.is_ours:
                raise
            console.print(f"{server.name} did not run: {cause_of(error)}")
        else:
            worst = max([worst, *codes]) if server.is_ours else worst
    return worst


def load(
    args: argparse.Namespace,
    server: Server,
    url: str,
    base: str,
    models: Sequence[str],
    shape: str,
) -> int:
    """One load test; its exit code."""
    adapters = [model for model in models if model != base]
    command = [sys.executable, "-m", "loadtest", shape, "--url", url]
    command += ["--duration", str(args.duration), "--report", str(args.report / server.name)]
    command += ["--model", base, *(["--adapters", ",".join(adapters)] if adapters else [])]
    console.rule(f"{server.name}, {shape}")
    return subprocess.run([*command, *args.rest]).returncode


def compare(args: argparse.Namespace) -> None:
    """A page for each shape that more than one server has a record of."""
    for shape in args.shapes:
        paths = [args.report / name / f"{shape}.json" for name in args.servers]
        there = [str(path) for path in paths if path.exists()]
        if len(there) > 1:
            page = args.report / f"{shape}.html"
            command = [sys.executable, "-m", "loadtest.compare", *there]
            subprocess.run([*command, "--html", str(page), "--title", shape], check=True)
            console.print(f"side by side: {page}")


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line; what it does not know is in `rest`, for the load test."""
    parser = make_parser("load", __doc__)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES))
    parser.add_argument("--servers", nargs="+", default=list(SERVERS))
    parser.add_argument("--duration", type=float, default=120.0, help="seconds a run")
    parser.add_argument("--report", type=Path, default=Path("loadtest-reports"))
    parser.add_argument("--packages", default="", help="folder with pyarrow, for ray.serve.llm")
    args, rest = parser.parse_known_args(words)
    args.rest = rest
    return args


def main() -> int:
    """Start, load, compare."""
    prepare_engines()
    args = parse(sys.argv[1:])
    with fast_folder() as folder:
        code = run(args, folder)
    compare(args)
    return code


if __name__ == "__main__":
    sys.exit(main())
