"""A LoRA as PEFT saves it: safetensors bytes and their config. Knows no base model."""

import re
from dataclasses import dataclass

from contracts.errors import InvalidAdapter
from flora.adapter_config import AdapterLimits, show
from flora.lora_config import LoraConfig
from flora.row import Floats
from flora.tensor_file import Entry, TensorFile

_TENSOR_NAME = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")
_OTHERS = (
    ("lora_embedding_", "LoRA on embeddings is not served"),
    ("lora_magnitude_vector", "DoRA is not served"),
    ("lora_B.bias", "biases of lora_B are not served"),
    ("modules_to_save", "whole modules trained beside the LoRA are not served"),
)


@dataclass(frozen=True, slots=True)
class LoraFiles:
    """A checked upload: `modules` by name, A [rank, in] and B [out, rank] in float32, unscaled."""

    config: LoraConfig
    modules: dict[str, tuple[Floats, Floats]]


def lora_tensor_name(module: str, side: str) -> str:
    """The name under which side "A" or "B" of a Hugging Face module is stored."""
    return f"base_model.model.{module}.lora_{side}.weight"


def read_lora(file: TensorFile, config_json: bytes, limits: AdapterLimits) -> LoraFiles:
    """The LoRA in a file whose header is in order. Raises InvalidAdapter, AdapterTooLarge."""
    config = LoraConfig.from_json(config_json, limits)
    sides: dict[str, dict[str, Entry]] = {}
    for entry in file.entries:
        module, side = _split(entry.name)
        sides.setdefault(module, {})[side] = entry
    for module, pair in sides.items():
        _check(module, pair, config.rank_of(module))
    return LoraFiles(
        config,
        {m: (file.tensor(pair["A"]), file.tensor(pair["B"])) for m, pair in sides.items()},
    )


def _split(name: str) -> tuple[str, str]:
    match = _TENSOR_NAME.fullmatch(name)
    if match is None:
        reasons = [reason for part, reason in _OTHERS if part in name]
        hint = reasons[0] if reasons else f"the name must be {lora_tensor_name('<module>', 'A')}"
        raise InvalidAdapter(f"tensor {show(name)}: {hint}")
    return match[1], match[2]


def _check(module: str, pair: dict[str, Entry], rank: int) -> None:
    if len(pair) < 2:
        missing = lora_tensor_name(module, "B" if "A" in pair else "A")
        raise InvalidAdapter(f"tensor {show(missing)} is missing")
    ranks = pair["A"].shape[0], pair["B"].shape[1]
    if ranks != (rank, rank):
        raise InvalidAdapter(
            f"module {show(module)} has lora_A of rank {ranks[0]} and lora_B of rank {ranks[1]},"
            f" its config says {rank}"
        )
