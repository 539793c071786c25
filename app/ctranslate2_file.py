"""Reads the variables of a CTranslate2 `model.bin`. Knows no model."""

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.errors import InvalidRequest

# The number formats of CTranslate2's `DataType`, in its order; bfloat16 as its bits.
_DTYPES = ("<f4", "<i1", "<i2", "<i4", "<f2", "<u2")
_VERSION = 6


def read_variables(content: bytes) -> Mapping[str, NDArray[Any]]:
    """Every variable by name, aliases too. Raises InvalidRequest for anything else.

    The layout is that of CTranslate2's model converter, binary version 6: version, name and
    revision of the specification, the variables, their aliases.
    """
    try:
        return _read(content)
    except (struct.error, ValueError, IndexError, KeyError) as error:
        raise InvalidRequest(f"not a CTranslate2 model: {error}", "model") from error


def _read(content: bytes) -> dict[str, NDArray[Any]]:
    reader = _Reader(content)
    if (version := reader.number("I")) != _VERSION:
        raise ValueError(f"binary version {version}, not {_VERSION}")
    reader.text()
    reader.number("I")
    variables: dict[str, NDArray[Any]] = {}
    for _ in range(reader.number("I")):
        name = reader.text()
        shape = [reader.number("I") for _ in range(reader.number("B"))]
        dtype = np.dtype(_DTYPES[reader.number("B")])
        numbers = np.frombuffer(reader.take(reader.number("I")), dtype)
        variables[name] = numbers.reshape(shape)
    for _ in range(reader.number("I")):
        alias = reader.text()
        variables[alias] = variables[reader.text()]
    return variables


class _Reader:
    """A place in the file that moves on."""

    def __init__(self, content: bytes) -> None:
        self._content = memoryview(content)
        self._at = 0

    def take(self, num_bytes: int) -> memoryview:
        taken = self._content[self._at : self._at + num_bytes]
        if len(taken) != num_bytes:
            raise ValueError("it ends too early")
        self._at += num_bytes
        return taken

    def number(self, form: str) -> int:
        return int(struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))[0])

    def text(self) -> str:
        """With its length in front and a zero behind, which counts."""
        return bytes(self.take(self.number("H"))).rstrip(b"\0").decode()
