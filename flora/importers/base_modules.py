"""The linear layers of a base model by name and size. Loads no weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from contracts.errors import InvalidAdapter, InvalidRequest
from flora.adapter_config import show
from flora.linear import linear_features, linear_modules

_WRAPPERS = frozenset({"base_model", "model", "module", "_orig_mod", "_fsdp_wrapped_module"})
"""What PEFT, data parallelism and compilation put before a module's name."""

_MAX_WRAPPERS = 8


@dataclass(frozen=True, slots=True)
class LinearSize:
    """One linear layer: its features, and whether something is added to its product."""

    in_features: int
    out_features: int
    has_bias: bool


@dataclass(frozen=True, slots=True)
class BaseModules:
    """What an adapter of one base model may name, in the model's order."""

    sizes: Mapping[str, LinearSize]

    @staticmethod
    def of(model: torch.nn.Module) -> "BaseModules":
        return BaseModules(
            {
                name: LinearSize(*linear_features(layer), layer.bias is not None)
                for name, layer in linear_modules(model).items()
            }
        )

    @staticmethod
    def read(model_dir: Path) -> "BaseModules":
        """Of a model's folder. Raises InvalidRequest when it holds no readable config."""
        try:
            config = AutoConfig.from_pretrained(model_dir, local_files_only=True)
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(config)
        except (OSError, ValueError) as error:
            raise InvalidRequest(f"no base model in {model_dir}: {error}", "model") from error
        return BaseModules.of(model)

    def resolve(self, name: str) -> str:
        """The model's name of a module that a trainer may have wrapped, or seen without its head.

        Raises InvalidAdapter when no module, or more than one, is meant.
        """
        parts = name.split(".")
        for _ in range(_MAX_WRAPPERS):
            candidate = ".".join(parts)
            if candidate in self.sizes:
                return candidate
            below = [known for known in self.sizes if known.endswith(f".{candidate}")]
            if len(below) == 1:
                return below[0]
            if len(parts) < 2 or parts.pop(0) not in _WRAPPERS:
                break
        raise InvalidAdapter(f"module {show(name)} is no linear layer of this base model")
