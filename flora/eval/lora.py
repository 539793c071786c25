"""A PEFT LoRA as what it adds to each weight. Knows no base model."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from contracts.errors import InvalidAdapter
from flora.adapter_config import AdapterLimits, show
from flora.eval.peft_folder import LIMITS, PeftFolder
from flora.lora_config import PEFT_TYPE, LoraConfig

_TENSOR_NAME = re.compile(r"(.+)\.lora_([AB])\.weight")


@dataclass(frozen=True, slots=True)
class LoraPair:
    """W' = W + scaling * B A of one module; a: [rank, in], b: [out, rank]."""

    a: torch.Tensor
    b: torch.Tensor
    scaling: float

    def delta(self) -> torch.Tensor:
        """[out, in]."""
        return self.scaling * (self.b @ self.a)


def read_lora(folder: PeftFolder, limits: AdapterLimits = LIMITS) -> dict[str, LoraPair]:
    """Pairs by Hugging Face module name. Source: Hu et al. 2022; rsLoRA: Kalajdzievski 2023.

    Raises InvalidAdapter on what is not a plain LoRA of linear layers, AdapterTooLarge.
    """
    if folder.peft_type != PEFT_TYPE:
        raise InvalidAdapter(f"peft_type is {show(folder.peft_type)}; {PEFT_TYPE} is needed")
    config = LoraConfig.from_parts(folder.config, limits)
    sides: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in folder.tensors.items():
        match = _TENSOR_NAME.fullmatch(name)
        if match is None or tensor.ndim != 2:
            raise InvalidAdapter(f"tensor {show(name)} is not a lora_A or lora_B of a linear layer")
        sides.setdefault(match[1], {})[match[2]] = tensor
    return {module: _pair(module, pair, config) for module, pair in sides.items()}


def _pair(module: str, sides: Mapping[str, torch.Tensor], config: LoraConfig) -> LoraPair:
    if sides.keys() != {"A", "B"}:
        raise InvalidAdapter(f"module {show(module)} lacks lora_A or lora_B")
    rank = config.rank_of(module)
    shapes = sides["A"].shape[0], sides["B"].shape[1]
    if shapes != (rank, rank):
        raise InvalidAdapter(f"module {show(module)} has ranks {shapes}, its config says {rank}")
    return LoraPair(sides["A"], sides["B"], config.scaling_of(module))
