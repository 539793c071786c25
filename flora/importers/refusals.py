"""Why an adapter cannot be imported. Knows the methods of PEFT by name alone."""

from collections.abc import Mapping
from typing import Any

from contracts.errors import InvalidAdapter
from flora.adapter_config import show

_ADDS = "it adds to the weight, W' = W + D, and D does not pass through W"
_TOKENS = "it adds trained tokens or states to the input and scales no weight"
_ROTATES = "it rotates the weight, which mixes its rows or columns"
_OTHER = "it changes something else than the scale of a linear layer's weight"

_METHODS: dict[str, str] = {
    _ADDS: """ADALORA ADAMSS BONE C3A DELORA FOURIERFT FROD GRALORA LILY LOHA LOKR MISS OSF POLY
        PVERA RANDLORA SHIRA TINYLORA UNILORA VBLORA VERA WAVEFT XLORA""",
    _TOKENS: """ADAPTION_PROMPT CARTRIDGE CPT MULTITASK_PROMPT_TUNING PREFIX_TUNING PROMPT_TUNING
        P_TUNING""",
    _ROTATES: "BOFT HRA OFT PSOFT ROAD",
    _OTHER: "BEFT DEFT GLORA LN_TUNING PEANUT SHADOW SUPERTUNING TRAINABLE_TOKENS",
}
_REASONS = {name: reason for reason, names in _METHODS.items() for name in names.split()}


def refuse_method(config: Mapping[str, Any]) -> InvalidAdapter:
    """The error for a `peft_type` that is not imported."""
    kind = config.get("peft_type")
    if kind == "LORA" and config.get("use_dora"):
        return InvalidAdapter(
            "DoRA cannot be imported: it adds to the weight and then normalises its columns;"
            " `flora convert` approximates it by training against it"
        )
    if kind == "LORA":
        return InvalidAdapter(
            f"LoRA cannot be imported: {_ADDS}. `flora convert` makes a fLoRA adapter that comes"
            " close, and the server serves LoRA as it is"
        )
    if isinstance(kind, str) and kind in _REASONS:
        return InvalidAdapter(f"{kind} cannot be imported: {_REASONS[kind]}")
    return InvalidAdapter(
        f"peft_type {show(kind)} is not known; IA3, HIRA and FLORA can be imported"
    )


def check_extras(config: Mapping[str, Any]) -> None:
    """Raises InvalidAdapter when a config says that more was trained than scales."""
    if config.get("modules_to_save"):
        raise InvalidAdapter(
            f"modules_to_save {show(config['modules_to_save'])}: modules trained in full are not"
            " part of a fLoRA adapter; train without them"
        )
    if config.get("bias") not in (None, "none"):
        raise InvalidAdapter(f"bias {show(config['bias'])}: a fLoRA adapter holds no biases")
    for name in ("trainable_token_indices", "target_parameters"):
        if config.get(name):
            raise InvalidAdapter(
                f"{name} {show(config[name])}: a fLoRA adapter scales linear layers alone"
            )
