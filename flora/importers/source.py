"""What somebody has: an adapter's config and tensors as they lie on disk. Knows no method."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.errors import AdapterTooLarge, InvalidAdapter
from flora.adapter_config import AdapterLimits, parse_json, show
from flora.row import Floats
from flora.tensor_file import TensorFile

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"

Shape = tuple[int, ...]

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True, slots=True)
class Source:
    """A checked header and its config. `read` gives the tensors by name, float32."""

    config: Mapping[str, Any]
    shapes: Mapping[str, Shape]
    read: Callable[[], dict[str, Floats]]

    @staticmethod
    def parse(weights: bytes, config_json: bytes | None, limits: AdapterLimits) -> "Source":
        """Of a file's bytes. Touches no tensor. Raises InvalidAdapter, AdapterTooLarge."""
        file = TensorFile.read(weights, limits, lambda name, shape: None)
        config_json = file.config_json(config_json)
        if len(config_json) > limits.max_config_bytes:
            raise AdapterTooLarge(
                f"{CONFIG_FILE} has {len(config_json)} bytes, at most {limits.max_config_bytes}"
            )
        config = parse_json(config_json, CONFIG_FILE)
        if not isinstance(config, dict):
            raise InvalidAdapter(f"{CONFIG_FILE} must be a JSON object")
        return Source(config, {e.name: e.shape for e in file.entries}, file.tensors)

    @staticmethod
    def open(path: Path, limits: AdapterLimits) -> "Source":
        """Of a PEFT folder, or of one .safetensors file with its config in it or beside it."""
        folder = path if path.is_dir() else path.parent
        weights = path / WEIGHTS_FILE if path.is_dir() else path
        if weights.suffix in _PICKLES or (not weights.exists() and _pickles(folder)):
            raise InvalidAdapter(
                f"{path.name} holds a pickle, which may run any code when it is opened:"
                " save the adapter as safetensors"
            )
        config = folder / CONFIG_FILE
        return Source.parse(
            _read(weights, limits.max_file_bytes),
            _read(config, limits.max_config_bytes) if config.exists() else None,
            limits,
        )


def field(config: Mapping[str, Any], name: str, kind: type, default: Any) -> Any:
    """A field of a foreign config; null is absent. Raises InvalidAdapter on another type."""
    value = config.get(name)
    if value is None:
        return default
    if type(value) is not kind:
        raise InvalidAdapter(f"{name} must be of type {kind.__name__}, not {show(value)}")
    return value


def _pickles(folder: Path) -> list[str]:
    return [file.name for file in folder.glob("adapter_model.*") if file.suffix in _PICKLES]


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        num_bytes = path.stat().st_size
        if num_bytes > max_bytes:
            raise AdapterTooLarge(f"{path.name} has {num_bytes} bytes, at most {max_bytes}")
        return path.read_bytes()
    except OSError as error:
        raise InvalidAdapter(f"{path} cannot be read: {error.strerror}") from error
