"""What the command lines of all benchmarks share: options, an end from outside, a fast folder."""

import argparse
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MODEL = Path("models/smollm2-135m-instruct")


def make_parser(
    name: str, description: str | None, *, model: bool = True
) -> argparse.ArgumentParser:
    """The parser of `flora bench NAME` with `--json` and, unless unwanted, `--model`."""
    parser = argparse.ArgumentParser(prog=f"flora bench {name}", description=description)
    parser.add_argument("--json", type=Path, help="where the record goes")
    if model:
        parser.add_argument("--model", type=Path, default=_MODEL)
    return parser


def prepare_engines() -> None:
    """For a process that starts engines: their logs kept short, and an end that reaches them.

    Engines are processes of their own: ended from outside, too, they have to go.
    """
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@contextmanager
def fast_folder() -> Iterator[Path]:
    """A temporary folder, on tmpfs where there is one."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        yield Path(folder)
