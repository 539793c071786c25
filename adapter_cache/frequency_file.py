"""The frequency sketch as a file that processes of a node map into their memory."""

import mmap
import os
from contextlib import suppress
from pathlib import Path

from adapter_cache.frequency import EMPTY_SKETCH, SKETCH_BYTES, FrequencySketch, is_sketch


def open_sketch(path: Path) -> FrequencySketch:
    """The sketch at `path`, started anew where there is none or a damaged one.

    One process at a time. Where nothing can be written, it is this process's alone.
    """
    try:
        if not _is_whole(path):
            _write_new(path)
        return FrequencySketch(memoryview(_map(path)))
    except OSError:
        return FrequencySketch(memoryview(bytearray(EMPTY_SKETCH)))


def _is_whole(path: Path) -> bool:
    try:
        return is_sketch(path.read_bytes())
    except FileNotFoundError:
        return False


def _write_new(path: Path) -> None:
    # Every byte is written: a mapped hole would kill the process on a disk that has become full.
    # The old file is replaced, not cut: others may have it mapped.
    incoming = path.with_name(path.name + ".incoming")
    try:
        incoming.write_bytes(EMPTY_SKETCH)
        os.replace(incoming, path)
    except OSError:
        with suppress(OSError):
            incoming.unlink(missing_ok=True)
        raise


def _map(path: Path) -> mmap.mmap:
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), SKETCH_BYTES)
