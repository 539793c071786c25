"""What the config of a PEFT LoRA says, as far as it changes the result. Knows no tensor."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from contracts.errors import AdapterTooLarge, InvalidAdapter
from flora.adapter_config import AdapterLimits, parse_config, show

PEFT_TYPE = "LORA"

# What changes the base model, or the product beyond W x + scaling * B (A x).
_REFUSED = {
    "use_dora": "DoRA scales the base weight's columns by its norms",
    "lora_bias": "biases of lora_B are not served",
    "modules_to_save": "whole modules trained beside the LoRA are not served",
    "trainable_token_indices": "trained embeddings are not served",
    "layer_replication": "it changes the base model's layers",
    "alora_invocation_tokens": "aLoRA begins in the middle of a prompt",
    "target_parameters": "parameters outside of linear modules are not served",
    "use_qalora": "QALoRA pools the input",
    "use_bdlora": "block-diagonal LoRA is another product",
    "arrow_config": "Arrow mixes several adapters",
    "kasa_config": "KaSA changes the base model's weights",
    "monteclora_config": "MonteCLoRA draws its weights at random",
    "velora_config": "VeLoRA is not known to be a plain LoRA",
}
_PLAIN_STARTS = ("gaussian", "eva", "orthogonal")
"""Values of init_lora_weights that leave the base model alone; others may change it."""
_PATTERN = re.compile(r"\^?[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")
_MAX_PATTERNS = 4096
_MAX_ALPHA = 1e6


@dataclass(frozen=True, slots=True)
class LoraConfig:
    """Scalings of a LoRA, W' = W + scaling * B A with A: [r, in] and B: [out, r].

    `ranks` and `alphas` are exceptions from `rank` and `alpha`: by whole module names, or by their
    ends after a dot. Hu et al., "LoRA", ICLR 2022; with `is_rank_stabilised` the scaling is
    alpha / sqrt(r) (Kalajdzievski, 2023) instead of alpha / r.
    """

    rank: int
    alpha: float
    is_rank_stabilised: bool
    ranks: Mapping[str, float]
    alphas: Mapping[str, float]

    @staticmethod
    def from_json(text: bytes, limits: AdapterLimits) -> "LoraConfig":
        """Raises InvalidAdapter on what is malformed or not a plain LoRA, AdapterTooLarge."""
        return LoraConfig.from_parts(parse_config(text, limits), limits)

    @staticmethod
    def from_parts(parts: dict[str, Any], limits: AdapterLimits) -> "LoraConfig":
        """`from_json` of what the text says."""
        _refuse_variants(parts)
        rank = _number(parts, "r")
        if rank != int(rank) or not 1 <= rank <= limits.max_rank:
            raise AdapterTooLarge(f"r must be between 1 and {limits.max_rank}, not {show(rank)}")
        return LoraConfig(
            int(rank),
            _number(parts, "lora_alpha"),
            _flag(parts, "use_rslora"),
            _pattern(parts, "rank_pattern"),
            _pattern(parts, "alpha_pattern"),
        )

    def rank_of(self, module: str) -> int:
        """The rank that a Hugging Face module's tensors must have."""
        return int(_match(self.ranks, module, self.rank))

    def scaling_of(self, module: str) -> float:
        rank, alpha = self.rank_of(module), _match(self.alphas, module, self.alpha)
        return alpha / (math.sqrt(rank) if self.is_rank_stabilised else rank)


def _refuse_variants(parts: dict[str, Any]) -> None:
    for name, reason in _REFUSED.items():
        if parts.get(name):
            raise InvalidAdapter(f"{name} is {show(parts[name])}: {reason}", name)
    if parts.get("bias", "none") != "none":
        raise InvalidAdapter(
            f'bias is {show(parts["bias"])}: trained biases are not served, only "none"', "bias"
        )
    start = parts.get("init_lora_weights", True)
    if not isinstance(start, bool) and start not in _PLAIN_STARTS:
        raise InvalidAdapter(
            f"init_lora_weights is {show(start)}, which may have changed the base model's weights:"
            " save the adapter with PEFT's path_initial_model_for_weight_conversion",
            "init_lora_weights",
        )


def _number(parts: dict[str, Any], name: str) -> float:
    value = parts.get(name)
    # A comparison that not-a-number fails, too.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _MAX_ALPHA:
        raise InvalidAdapter(f"{name} must be a positive number, not {show(value)}", name)
    return float(value)


def _flag(parts: dict[str, Any], name: str) -> bool:
    value = parts.get(name) or False
    if not isinstance(value, bool):
        raise InvalidAdapter(f"{name} must be true or false, not {show(value)}", name)
    return value


def _pattern(parts: dict[str, Any], name: str) -> dict[str, float]:
    """PEFT reads the keys as regular expressions; a stranger's are not run here."""
    value = parts.get(name) or {}
    if not isinstance(value, dict) or len(value) > _MAX_PATTERNS:
        raise InvalidAdapter(f"{name} must map at most {_MAX_PATTERNS} module names", name)
    for key in value:
        if not _PATTERN.fullmatch(key):
            raise InvalidAdapter(
                f"{name} names {show(key)}: whole module names, or their ends, are read only", name
            )
    return {key: _number(value, key) for key in value}


def _match(pattern: Mapping[str, float], module: str, default: float) -> float:
    """The first key that fits counts, as in PEFT."""
    for key, value in pattern.items() if pattern else ():
        if module == key.removeprefix("^"):
            return value
        if not key.startswith("^") and module.endswith(f".{key}"):
            return value
    return default
