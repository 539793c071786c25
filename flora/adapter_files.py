"""An adapter as files: safetensors bytes and their config. Knows no base model and no layout."""

import re
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from safetensors import TensorSpec, serialize

from contracts.errors import AdapterTooLarge, InvalidAdapter
from flora.adapter_config import AdapterConfig, AdapterLimits, parse_json, show
from flora.row import Floats, narrow, widen

METADATA_KEY = "adapter_config"
"""Where the one-file form keeps its config, under the safetensors header's `__metadata__`."""

_LENGTH_BYTES = 8
# The demo adapters stay below 0.25. From about this on products overflow in half precision.
_MAX_MAGNITUDE = 1e4
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
_TENSOR_NAME = re.compile(r"base_model\.model\.(.+)\.flora_([AB])")
_FOREIGN = (
    (b"PK", "a zip file (torch.save writes these)"),
    (b"\x80", "a pickle file"),
    (b"\x1f\x8b", "a gzip file"),
    (b"GGUF", "a GGUF file"),
    (b"{", "bare JSON"),
)


@dataclass(frozen=True, slots=True)
class AdapterFiles:
    """A checked upload: `tensors` by full name, float32, A is [rank, out] and B is [rank, in]."""

    config: AdapterConfig
    tensors: dict[str, Floats]


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    dtype: str
    shape: tuple[int, int]
    begin: int
    end: int


def tensor_name(module: str, side: str) -> str:
    """The name under which side "A" or "B" of a Hugging Face module is stored."""
    return f"base_model.model.{module}.flora_{side}"


def split_tensor_name(name: str) -> tuple[str, str]:
    """Module and side of a tensor. Raises InvalidAdapter on a name of another form."""
    match = _TENSOR_NAME.fullmatch(name)
    if match is None:
        raise InvalidAdapter(
            f"tensor {show(name)}: the name must be {tensor_name('<module>', 'A')} or ..._B"
        )
    return match[1], match[2]


def read_adapter(weights: bytes, config_json: bytes | None, limits: AdapterLimits) -> AdapterFiles:
    """Parses an upload. Without `config_json` the config is taken from the header's metadata.

    The whole header is checked before a tensor is touched. Raises InvalidAdapter, AdapterTooLarge.
    """
    if len(weights) > limits.max_file_bytes:
        raise AdapterTooLarge(
            f"the adapter has {len(weights)} bytes, at most {limits.max_file_bytes} are allowed"
        )
    header, body = _split(weights, limits)
    metadata = _metadata(header.pop("__metadata__", {}))
    if config_json is None and METADATA_KEY not in metadata:
        raise InvalidAdapter(
            f"no adapter_config.json, and no {METADATA_KEY} in the header's metadata"
        )
    if config_json is None:
        # JSON's escapes allow a lone surrogate, UTF-8 does not: it becomes invalid JSON here.
        config_json = metadata[METADATA_KEY].encode(errors="backslashreplace")
    config = AdapterConfig.from_json(config_json, limits)
    entries = _entries(header, len(body), limits)
    return AdapterFiles(config, {entry.name: _tensor(entry, body) for entry in entries})


def write_adapter(
    files: AdapterFiles, dtype: str, *, one_file: bool = False
) -> tuple[bytes, bytes]:
    """The inverse of `read_adapter`: safetensors bytes in `dtype`, and the config's JSON.

    Raises InvalidAdapter when a number does not fit `dtype` ("float32", "float16" or "bfloat16").
    """
    config_json = files.config.to_json()
    # A TensorSpec holds an address only: `narrowed` keeps the memory alive until it is written.
    narrowed = {
        name: np.ascontiguousarray(narrow(tensor, dtype)) for name, tensor in files.tensors.items()
    }
    specs = {
        name: TensorSpec(
            dtype=dtype,
            shape=list(tensor.shape),
            data_ptr=tensor.ctypes.data,
            data_len=tensor.nbytes,
        )
        for name, tensor in narrowed.items()
    }
    metadata = {"format": "pt"} | ({METADATA_KEY: config_json.decode()} if one_file else {})
    return bytes(serialize(specs, metadata)), config_json


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


def _entries(header: dict[str, Any], body_bytes: int, limits: AdapterLimits) -> list[_Entry]:
    if not 1 <= len(header) <= limits.max_tensors:
        raise AdapterTooLarge(f"{len(header)} tensors; 1 to {limits.max_tensors} are allowed")
    entries = [_entry(name, value, limits) for name, value in header.items()]
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


def _entry(name: str, value: object, limits: AdapterLimits) -> _Entry:
    split_tensor_name(name)
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise InvalidAdapter(f"tensor {show(name)} needs dtype, shape and data_offsets, no more")
    dtype = value["dtype"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise InvalidAdapter(
            f"tensor {show(name)}: dtype must be F32, F16 or BF16, not {show(dtype)}"
        )
    shape = _counts(value["shape"], f"tensor {show(name)}: shape [rank, size]")
    begin, end = _counts(value["data_offsets"], f"tensor {show(name)}: data_offsets")
    if not 1 <= shape[0] <= limits.max_rank or shape[1] < 1:
        raise AdapterTooLarge(
            f"tensor {show(name)}: shape {show(shape)}; the rank is 1 to {limits.max_rank}"
        )
    if end - begin != prod(shape) * _ITEM_BYTES[dtype]:
        raise InvalidAdapter(
            f"tensor {show(name)}: {show(end - begin)} bytes do not hold shape {show(shape)}"
        )
    return _Entry(name, dtype, shape, begin, end)


def _counts(value: object, what: str) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise InvalidAdapter(f"{what} must be two numbers, not {show(value)}")
    if not all(type(count) is int and count >= 0 for count in value):
        raise InvalidAdapter(f"{what} must be non-negative integers, not {show(value)}")
    return value[0], value[1]


def _tensor(entry: _Entry, body: memoryview) -> Floats:
    numbers = widen(body[entry.begin : entry.end], _DTYPES[entry.dtype]).reshape(entry.shape)
    if not np.isfinite(numbers).all():
        raise InvalidAdapter(f"tensor {show(entry.name)} holds a NaN or an infinity")
    most = float(np.abs(numbers).max())
    if most > _MAX_MAGNITUDE:
        raise InvalidAdapter(
            f"tensor {show(entry.name)} holds {most:.3g}; at most {_MAX_MAGNITUDE:g} is accepted"
        )
    return numbers
