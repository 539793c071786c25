"""Adapters to publish: PEFT folders, and as many different ones made of each as a run needs.

Knows safetensors' framing, and nothing of what the tensors mean.
"""

import json
from dataclasses import dataclass
from pathlib import Path

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
NUMBER_BITS = 20
_TOP_MANTISSA_BIT = {"F32": 22, "BF16": 6, "F16": 9}
_WIDTH_BYTES = {"F32": 4, "BF16": 2, "F16": 2}
_OUTPUT_SIDES = ("flora_A", "lora_B.weight")
"""Tensors that are nobody's shared input: changing one keeps an adapter well-formed."""


@dataclass(frozen=True, slots=True)
class AdapterFiles:
    """What is uploaded."""

    config: bytes
    weights: bytes

    def variant(self, number: int) -> "AdapterFiles":
        """The same adapter with other bytes for every `number`, 0 to 2**20 - 1; 0 is itself.

        Bit k of `number` decides over the highest mantissa bit of one tensor's k-th element:
        finite numbers stay finite, and shorter formats still see the difference. Raises
        ValueError.
        """
        if not 0 <= number < 1 << NUMBER_BITS:
            raise ValueError(f"variants are numbered 0 to 2**{NUMBER_BITS} - 1, not {number}")
        dtype, begin = _place(self.weights)
        bit, width = _TOP_MANTISSA_BIT[dtype], _WIDTH_BYTES[dtype]
        changed = bytearray(self.weights)
        for element in range(NUMBER_BITS):
            if number >> element & 1:
                changed[begin + element * width + bit // 8] ^= 1 << bit % 8
        return AdapterFiles(self.config, bytes(changed))


def read_folders(folder: Path) -> list[AdapterFiles]:
    """The adapter in `folder`, or each one in the folders in it, by name. Raises ValueError."""
    places = [folder] if (folder / CONFIG_FILE).exists() else sorted(folder.glob("*/"))
    found = [
        AdapterFiles((place / CONFIG_FILE).read_bytes(), (place / WEIGHTS_FILE).read_bytes())
        for place in places
        if (place / CONFIG_FILE).exists() and (place / WEIGHTS_FILE).exists()
    ]
    if not found:
        raise ValueError(f"{folder} holds no adapter: {CONFIG_FILE} and {WEIGHTS_FILE}")
    return found


def _place(weights: bytes) -> tuple[str, int]:
    """Type and first byte of a tensor that may be changed. Raises ValueError."""
    length = int.from_bytes(weights[:8], "little")
    try:
        header = json.loads(weights[8 : 8 + length])
        tensors = {name: about for name, about in header.items() if name != "__metadata__"}
    except (ValueError, AttributeError):
        raise ValueError(f"no safetensors file: {weights[:32]!r}") from None
    for name in sorted(tensors, key=lambda name: not name.endswith(_OUTPUT_SIDES)):
        about = tensors[name]
        begin, end = about["data_offsets"]
        width = _WIDTH_BYTES.get(about["dtype"], 0)
        if width and end - begin >= NUMBER_BITS * width:
            return about["dtype"], 8 + length + begin
    raise ValueError(f"no tensor has {NUMBER_BITS} numbers of {', '.join(_WIDTH_BYTES)}")
