"""The JSON beside an adapter's tensors, in PEFT's form. Checks every field; knows no tensor."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

from contracts.errors import AdapterTooLarge, InvalidAdapter

Parametrization = Literal["deviation", "value"]
T = TypeVar("T")

_SHOWN_CHARACTERS = 120
_MAX_SIBLINGS = 16


@dataclass(frozen=True, slots=True)
class AdapterLimits:
    """Bounds of one upload, checked before anything of the size in question is allocated."""

    max_file_bytes: int = 64 << 20
    max_header_bytes: int = 4 << 20
    max_config_bytes: int = 1 << 20
    max_tensors: int = 16384
    max_rank: int = 64
    max_row_bytes: int = 256 << 20

    def __post_init__(self) -> None:
        if min(self.max_file_bytes, self.max_header_bytes, self.max_config_bytes) < 1 or (
            min(self.max_tensors, self.max_rank, self.max_row_bytes) < 1
        ):
            raise AdapterTooLarge("every adapter limit is at least one")


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """What `adapter_config.json` says.

    With `parametrization` "deviation" pair 0 of every tensor is stored minus one; with "value" as
    it is. `tie_inputs`: modules that read one input share B, which may be stored on one of them;
    `shared_inputs` names such siblings, as ("q_proj", "k_proj", "v_proj"), for a server that keeps
    them apart. An empty `base_fingerprint` matches any base model.
    """

    rank: int
    parametrization: Parametrization
    tie_inputs: bool = False
    target_modules: tuple[str, ...] = ()
    base_model_name_or_path: str = ""
    base_fingerprint: str = ""
    shared_inputs: tuple[tuple[str, ...], ...] = ()

    @staticmethod
    def from_json(text: bytes, limits: AdapterLimits) -> "AdapterConfig":
        """Raises InvalidAdapter on malformed JSON or a field of the wrong type, AdapterTooLarge."""
        parts = parse_config(text, limits)
        if parts.get("peft_type") != "FLORA":
            raise InvalidAdapter(f'peft_type must be "FLORA", not {show(parts.get("peft_type"))}')
        if parts.get("parametrization") not in ("deviation", "value"):
            raise InvalidAdapter('parametrization must be "deviation" or "value"')
        rank = _field(parts, "r", int, None)
        if not 1 <= rank <= limits.max_rank:
            raise AdapterTooLarge(f"r must be between 1 and {limits.max_rank}, not {show(rank)}")
        return AdapterConfig(
            rank,
            cast(Parametrization, parts["parametrization"]),
            _field(parts, "tie_inputs", bool, False),
            _names(parts.get("target_modules"), "target_modules"),
            _field(parts, "base_model_name_or_path", str, ""),
            _field(parts, "base_fingerprint", str, ""),
            shared_input_sets(_field(parts, "shared_inputs", list, [])),
        )

    def to_json(self) -> bytes:
        """The inverse of `from_json`, indented for people."""
        parts: dict[str, Any] = {
            "peft_type": "FLORA",
            "task_type": "CAUSAL_LM",
            "r": self.rank,
            "parametrization": self.parametrization,
            "tie_inputs": self.tie_inputs,
            "target_modules": list(self.target_modules),
            "base_model_name_or_path": self.base_model_name_or_path,
        }
        if self.base_fingerprint:
            parts["base_fingerprint"] = self.base_fingerprint
        if self.shared_inputs:
            parts["shared_inputs"] = [list(names) for names in self.shared_inputs]
        return json.dumps(parts, indent=2).encode() + b"\n"


def parse_config(text: bytes, limits: AdapterLimits) -> dict[str, Any]:
    """`adapter_config.json` of any kind of adapter. Raises InvalidAdapter, AdapterTooLarge."""
    if len(text) > limits.max_config_bytes:
        raise AdapterTooLarge(
            f"adapter_config.json has {len(text)} bytes, at most {limits.max_config_bytes}"
        )
    parts = parse_json(text, "adapter_config.json")
    if not isinstance(parts, dict):
        raise InvalidAdapter("adapter_config.json must be a JSON object")
    return parts


def parse_json(text: bytes, what: str) -> Any:
    """JSON in UTF-8 in which no object names a key twice. Raises InvalidAdapter."""
    try:
        return json.loads(text.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise InvalidAdapter(f"{what} is not valid JSON: {show(str(error))}") from error


def shared_input_sets(value: list[object]) -> tuple[tuple[str, ...], ...]:
    """The field `shared_inputs`, checked. Raises InvalidAdapter."""
    sets = tuple(_names(names, "shared_inputs") for names in value)
    if any(len(names) > _MAX_SIBLINGS for names in sets):
        raise InvalidAdapter(f"shared_inputs names more than {_MAX_SIBLINGS} siblings of one input")
    return sets


def show(value: object) -> str:
    """A caller's value for a message: printable ASCII, never longer than a line."""
    text = ascii(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    for key, value in pairs:
        if key in parts:
            raise ValueError(f"the key {show(key)} appears twice")
        parts[key] = value
    return parts


def _field(parts: dict[str, Any], name: str, kind: type[T], default: T | None) -> T:
    value = parts.get(name)
    if value is None and default is not None:
        return default
    if type(value) is not kind:
        raise InvalidAdapter(f"{name} must be of type {kind.__name__}, not {show(value)}")
    return value


def _names(value: object, what: str) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value if value is not None else []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidAdapter(f"{what} must hold strings, not {show(value)}")
    return tuple(names)
