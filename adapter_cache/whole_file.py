"""Files that appear whole or not at all, and last once they are there. Local disks only.

Bytes are written to a temporary file in `incoming`, flushed to the disk, and then given their
name; `incoming` must be on the same filesystem. A writer that dies leaves the temporary behind.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def write_whole(path: Path, data: bytes, incoming: Path) -> None:
    """Put `data` at `path`, in place of what may be there. Raises OSError."""
    with _temporary(data, incoming) as temporary:
        _make_folder(path.parent)
        os.replace(temporary, path)
    _flush_folder(path.parent)


def create_whole(path: Path, data: bytes, incoming: Path) -> None:
    """Put `data` at `path`. Raises FileExistsError where something is, else OSError."""
    with _temporary(data, incoming) as temporary:
        _make_folder(path.parent)
        # Unlike opening with O_EXCL, a link cannot be seen before the bytes are there.
        os.link(temporary, path)
    _flush_folder(path.parent)


@contextmanager
def _temporary(data: bytes, incoming: Path) -> Iterator[str]:
    incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=incoming)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        yield temporary
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def _make_folder(folder: Path) -> None:
    """Create `folder` and what is missing above it, so that a power cut cannot take it back."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    _flush_folder(folder.parent)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
