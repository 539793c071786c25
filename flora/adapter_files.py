"""An adapter as files: safetensors bytes and their config. Knows no base model and no layout."""

import re
from dataclasses import dataclass

import numpy as np
from safetensors import TensorSpec, serialize

from contracts.errors import AdapterTooLarge, InvalidAdapter
from flora.adapter_config import AdapterConfig, AdapterLimits, show
from flora.row import Floats, narrow
from flora.tensor_file import METADATA_KEY, Entry, TensorFile

_TENSOR_NAME = re.compile(r"base_model\.model\.(.+)\.flora_([AB])")


@dataclass(frozen=True, slots=True)
class AdapterFiles:
    """A checked upload: `tensors` by full name, float32, A is [rank, out] and B is [rank, in]."""

    config: AdapterConfig
    tensors: dict[str, Floats]


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
    return adapter_in(TensorFile.read(weights, limits), config_json, limits)


def adapter_in(file: TensorFile, config_json: bytes | None, limits: AdapterLimits) -> AdapterFiles:
    """`read_adapter` of a file whose header is in order."""
    config = AdapterConfig.from_json(file.config_json(config_json), limits)
    for entry in file.entries:
        _check(entry, limits)
    return AdapterFiles(config, file.tensors())


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


def _check(entry: Entry, limits: AdapterLimits) -> None:
    split_tensor_name(entry.name)
    if entry.shape[0] > limits.max_rank:
        raise AdapterTooLarge(
            f"tensor {show(entry.name)}: shape {show(entry.shape)};"
            f" the rank is 1 to {limits.max_rank}"
        )
