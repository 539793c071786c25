"""Adapters of three kinds on one and the same layers of a Whisper model, ready to learn."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from peft import IA3Config, LoraConfig, inject_adapter_in_model
from torch import nn

from flora.stacked_adapters import StackedAdapters


@dataclass(frozen=True, slots=True)
class Learning:
    """What learns on a model. `select` is told the number of clips before each forward pass."""

    parameters: Sequence[nn.Parameter]
    select: Callable[[int], object] = field(default=lambda num_clips: None)

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters)


Adapt = Callable[[nn.Module, Sequence[str], int], Learning]
"""Puts an adapter on the named layers of a model and freezes the rest. Takes a seed."""


def flora_rank_1(model: nn.Module, modules: Sequence[str], seed: int) -> Learning:
    """Rank 1, tied inputs: what `flora train-speech` makes by default."""
    stack = StackedAdapters(model, 1, 1, modules, True, seed)
    return Learning([*stack.parameters.values()], lambda num_clips: stack.select([0] * num_clips))


def lora(rank: int) -> Adapt:
    """PEFT's LoRA, scaled by alpha / rank = 2."""

    def adapt(model: nn.Module, modules: Sequence[str], seed: int) -> Learning:
        config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(modules))
        return _inject(config, model, seed)

    return adapt


def ia3(model: nn.Module, modules: Sequence[str], seed: int) -> Learning:
    """PEFT's IA3: one vector a layer, over the outputs, and over the inputs of `fc2`."""
    inputs = [name for name in modules if name.endswith("fc2")]
    config = IA3Config(target_modules=list(modules), feedforward_modules=inputs)
    return _inject(config, model, seed)


METHODS: Mapping[str, Adapt] = {
    "flora_r1": flora_rank_1,
    "lora_r1": lora(1),
    "lora_r8": lora(8),
    "ia3": ia3,
}


def _inject(config: LoraConfig | IA3Config, model: nn.Module, seed: int) -> Learning:
    torch.manual_seed(seed)
    model.requires_grad_(False)
    before = {id(parameter) for parameter in model.parameters()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inject_adapter_in_model(config, model)
    learned = [p for p in model.parameters() if id(p) not in before]
    for parameter in model.parameters():
        parameter.requires_grad_(any(parameter is each for each in learned))
    return Learning(learned)
