"""A safetensors file that somebody sent: its header before its body. Knows no adapter."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from contracts.errors import AdapterTooLarge, InvalidAdapter
from flora.adapter_config import AdapterLimits, parse_json, show
from flora.row import Floats, widen

METADATA_KEY = "adapter_config"
"""Where the one-file form keeps its config, under the safetensors header's `__metadata__`."""

ShapeCheck = Callable[[str, tuple[int, ...]], None]
"""Of a tensor's name and shape. Raises InvalidAdapter, AdapterTooLarge."""

_LENGTH_BYTES = 8
_MAX_DIMENSIONS = 8
# The demo adapters stay below 0.25. From about this on products overflow in half precision.
_MAX_MAGNITUDE = 1e4
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
_FOREIGN = (
    (b"PK", "a zip file (torch.save writes these)"),
    (b"\x80", "a pickle file"),
    (b"\x1f\x8b", "a gzip file"),
    (b"GGUF", "a GGUF file"),
    (b"{", "bare JSON"),
)


@dataclass(frozen=True, slots=True)
class TensorFile:
    """A file whose header is in order: tensors that fill the body, none of them empty."""

    metadata: dict[str, str]
    entries: tuple["Entry", ...]
    body: memoryview

    @staticmethod
    def read(
        weights: bytes, limits: AdapterLimits, check: ShapeCheck | None = None
    ) -> "TensorFile":
        """Checks the whole header and touches no tensor. Raises InvalidAdapter, AdapterTooLarge.

        `check` takes the place of the rule that every tensor is a matrix, small on one side.
        """
        if len(weights) > limits.max_file_bytes:
            raise AdapterTooLarge(
                f"the adapter has {len(weights)} bytes, at most {limits.max_file_bytes} are allowed"
            )
        header, body = _split(weights, limits)
        metadata = _metadata(header.pop("__metadata__", {}))
        check = check or (lambda name, shape: _check_matrix(name, shape, limits))
        return TensorFile(metadata, _entries(header, len(body), limits, check), body)

    def config_json(self, config_json: bytes | None) -> bytes:
        """The config as it came, or where it did not, the one-file form's. Raises InvalidAdapter.

        JSON's escapes allow a lone surrogate, UTF-8 does not: it becomes invalid JSON here.
        """
        if config_json is not None:
            return config_json
        if METADATA_KEY not in self.metadata:
            raise InvalidAdapter(
                f"no adapter_config.json, and no {METADATA_KEY} in the header's metadata"
            )
        return self.metadata[METADATA_KEY].encode(errors="backslashreplace")

    def tensors(self) -> dict[str, Floats]:
        """Every `tensor` by name."""
        return {entry.name: self.tensor(entry) for entry in self.entries}

    def tensor(self, entry: "Entry") -> Floats:
        """The numbers of one tensor as float32. Raises InvalidAdapter if one is out of bounds."""
        stored = self.body[entry.begin : entry.end]
        numbers = widen(stored, _DTYPES[entry.dtype]).reshape(entry.shape)
        if not np.isfinite(numbers).all():
            raise InvalidAdapter(f"tensor {show(entry.name)} holds a NaN or an infinity")
        most = float(np.abs(numbers).max())
        if most > _MAX_MAGNITUDE:
            raise InvalidAdapter(
                f"tensor {show(entry.name)} holds {most:.3g};"
                f" at most {_MAX_MAGNITUDE:g} is accepted"
            )
        return numbers


@dataclass(frozen=True, slots=True)
class Entry:
    """What the header says of one tensor; no side of `shape` is zero."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def _split(weights: bytes, limits: AdapterLimits) -> tuple[dict[str, Any], memoryview]:
    header_bytes = int.from_bytes(weights[:_LENGTH_BYTES], "little")
    body_begin = _LENGTH_BYTES + header_bytes
    if weights[_LENGTH_BYTES : _LENGTH_BYTES + 1] != b"{" or body_begin > len(weights):
        kinds = [kind for magic, kind in _FOREIGN if weights.startswith(magic)]
        hint = f"; it looks like {kinds[0]}" if kinds else "; it may be cut off"
        raise InvalidAdapter(f"not a safetensors file{hint}")
    if header_bytes > limits.max_header_bytes:
        raise AdapterTooLarge(
            f"the safetensors header has {header_bytes} bytes, at most {limits.max_header_bytes}"
        )
    header = parse_json(weights[_LENGTH_BYTES:body_begin], "the safetensors header")
    return header, memoryview(weights)[body_begin:]


def _metadata(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise InvalidAdapter("the header's __metadata__ must map strings to strings")
    return value


def _entries(
    header: dict[str, Any], body_bytes: int, limits: AdapterLimits, check: ShapeCheck
) -> tuple[Entry, ...]:
    if not 1 <= len(header) <= limits.max_tensors:
        raise AdapterTooLarge(f"{len(header)} tensors; 1 to {limits.max_tensors} are allowed")
    entries = tuple(_entry(name, value, check) for name, value in header.items())
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.begin):
        if entry.begin != end:
            raise InvalidAdapter(
                f"tensor {show(entry.name)} starts at byte {show(entry.begin)}, not {show(end)}:"
                " tensors must follow each other with no gap and no overlap"
            )
        end = entry.end
    if end != body_bytes:
        raise InvalidAdapter(
            f"the header describes {show(end)} bytes of tensors, the file has {body_bytes}"
        )
    return entries


def _entry(name: str, value: object, check: ShapeCheck) -> Entry:
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise InvalidAdapter(f"tensor {show(name)} needs dtype, shape and data_offsets, no more")
    dtype = value["dtype"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise InvalidAdapter(
            f"tensor {show(name)}: dtype must be F32, F16 or BF16, not {show(dtype)}"
        )
    shape = _counts(value["shape"], f"tensor {show(name)}: shape")
    check(name, shape)
    if not shape or min(shape) < 1:
        raise InvalidAdapter(f"tensor {show(name)}: shape {show(shape)} holds no number")
    offsets = _counts(value["data_offsets"], f"tensor {show(name)}: data_offsets")
    if len(offsets) != 2:
        raise InvalidAdapter(
            f"tensor {show(name)}: data_offsets must be two numbers, not {show(list(offsets))}"
        )
    begin, end = offsets
    if end - begin != prod(shape) * _ITEM_BYTES[dtype]:
        raise InvalidAdapter(
            f"tensor {show(name)}: {show(end - begin)} bytes do not hold shape {show(shape)}"
        )
    return Entry(name, dtype, shape, begin, end)


def _check_matrix(name: str, shape: tuple[int, ...], limits: AdapterLimits) -> None:
    if len(shape) != 2:
        raise InvalidAdapter(
            f"tensor {show(name)}: shape must be two numbers, not {show(list(shape))}"
        )
    if not 1 <= min(shape) <= limits.max_rank:  # one of the two is the rank, or at least as much
        raise AdapterTooLarge(
            f"tensor {show(name)}: shape {show(shape)}; the rank is 1 to {limits.max_rank}"
        )


def _counts(value: object, what: str) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > _MAX_DIMENSIONS:
        raise InvalidAdapter(f"{what} must be a short list of numbers, not {show(value)}")
    if not all(type(count) is int and count >= 0 for count in value):
        raise InvalidAdapter(f"{what} must be non-negative integers, not {show(value)}")
    return tuple(value)
