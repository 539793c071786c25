"""An adapter folder in PEFT's form, of any method. Opens safetensors only; knows no base model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from contracts.errors import AdapterTooLarge, InvalidAdapter
from flora.adapter_config import AdapterLimits, parse_json, show

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
LIMITS = AdapterLimits(max_file_bytes=2 << 30)
"""For a folder of one's own: a LoRA of a large model is larger than what a server takes."""

_PREFIX = "base_model.model."
_DTYPES = ("F32", "F16", "BF16")


@dataclass(frozen=True, slots=True)
class PeftFolder:
    """What the folder holds: `tensors` in float32, by name without PEFT's prefix."""

    path: Path
    config: dict[str, Any]
    tensors: dict[str, torch.Tensor]

    @property
    def peft_type(self) -> str:
        return str(self.config.get("peft_type"))


def read_config(folder: Path, limits: AdapterLimits = LIMITS) -> dict[str, Any]:
    """The folder's adapter_config.json. Raises InvalidAdapter, AdapterTooLarge."""
    path = folder / CONFIG_FILE
    check_size(path, limits.max_config_bytes)
    config = parse_json(path.read_bytes(), CONFIG_FILE)
    if not isinstance(config, dict):
        raise InvalidAdapter(f"{CONFIG_FILE} must be a JSON object")
    return config


def read_folder(folder: Path, limits: AdapterLimits = LIMITS) -> PeftFolder:
    """Sizes and the header are checked before a tensor is read. Raises InvalidAdapter and kin."""
    config = read_config(folder, limits)
    path = folder / WEIGHTS_FILE
    check_size(path, limits.max_file_bytes)
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            if not 1 <= len(names) <= limits.max_tensors:
                raise AdapterTooLarge(f"{len(names)} tensors; 1 to {limits.max_tensors} is right")
            for name in names:
                _check_entry(name, file.get_slice(name))
            tensors = {name: file.get_tensor(name).float() for name in names}
    except (OSError, SafetensorError) as error:
        raise InvalidAdapter(f"{WEIGHTS_FILE} is not a safetensors file: {error}") from error
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise InvalidAdapter(f"tensor {show(name)} holds a NaN or an infinity")
    named = {name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items()}
    return PeftFolder(folder, config, named)


def check_size(path: Path, max_bytes: int) -> None:
    """Raises InvalidAdapter where there is no such file, AdapterTooLarge."""
    try:
        num_bytes = path.stat().st_size
    except OSError as error:
        hint = f"; {path.name} has to be saved as safetensors" if path.suffix != ".json" else ""
        raise InvalidAdapter(f"{path.parent} has no {path.name}{hint}") from error
    if num_bytes > max_bytes:
        raise AdapterTooLarge(f"{path.name} has {num_bytes} bytes, at most {max_bytes}")


def _check_entry(name: str, entry: Any) -> None:
    if entry.get_dtype() not in _DTYPES or not 1 <= len(entry.get_shape()) <= 2:
        raise InvalidAdapter(
            f"tensor {show(name)}: dtype {entry.get_dtype()} and shape {entry.get_shape()};"
            f" a matrix or vector of {', '.join(_DTYPES)} is needed"
        )
