"""A row file on its way into a slot: its header is checked first, its payload read later."""

import os
from io import FileIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contracts.errors import AdapterCorrupt
from flora.layout import AdapterLayout
from flora.row import RowHeader, read_header

_HEAD_BYTES = 64


class RowFile:
    """An open row file whose header fits. What the path names later does not matter."""

    def __init__(self, name: str, file: FileIO, header: RowHeader) -> None:
        self.header = header
        self._name = name
        self._file = file

    @staticmethod
    def open(path: Path, layout: AdapterLayout) -> "RowFile":
        """Raises AdapterCorrupt when it is no row of the layout, OSError when it can't be read."""
        file = FileIO(path)
        try:
            size = os.fstat(file.fileno()).st_size
            head = os.pread(file.fileno(), _HEAD_BYTES + 2 * len(layout.groups), 0)
            header = read_header(head, size)
            header.check(layout)
        except BaseException:
            file.close()
            raise
        return RowFile(path.name, file, header)

    def read(self, target: NDArray[np.uint8]) -> int:
        """The payload to the beginning of `target`, in one piece; its bytes. Closes the file.

        Raises AdapterCorrupt where there is less of it than the header says, and OSError.
        """
        size = self.header.payload_bytes
        with self._file as file:
            if os.preadv(file.fileno(), [target.data[:size]], self.header.header_bytes) != size:
                raise AdapterCorrupt(f"{self._name} ended early")
        return size


def fault_of(path: Path, layout: AdapterLayout) -> str:
    """Why a file is no row of the layout, as far as its header says; empty where that is right."""
    try:
        RowFile.open(path, layout)._file.close()
    except AdapterCorrupt as error:
        return str(error)
    except OSError as error:
        return type(error).__name__  # its text names a path
    return ""
