"""Which base model a directory holds. Knows nothing of adapters."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from contracts.errors import InvalidRequest

_SHAPE_FIELDS = (
    ("model_type",),
    ("hidden_size", "n_embd", "d_model"),
    ("num_hidden_layers", "n_layer", "num_layers"),
    ("num_attention_heads", "n_head", "num_heads"),
    ("num_key_value_heads",),
    ("intermediate_size", "n_inner"),
    ("encoder_layers",),
    ("decoder_layers",),
    ("num_experts", "num_local_experts"),
    ("vocab_size",),
)
"""What decides a model's shapes, by all of its names. Absent and null are the same."""

_PREFIX = re.compile(r"^(model|transformer)\.")
_HASH_CHARACTERS = 12


def fingerprint(model_dir: Path) -> str:
    """Twelve hex digits of the architecture, then "-" and twelve of the weights.

    The weights part hashes the 1-D normalization weights rounded to bfloat16: small, never
    quantised, and different for every training run; so float32, bfloat16 and quantised copies of
    one model agree. Without safetensors the architecture stands alone. Raises InvalidRequest when
    the directory holds no readable model.
    """
    architecture = _short(json.dumps(_shapes(_config(model_dir))).encode())
    norms = _norm_weights(model_dir)
    if not norms:
        return architecture
    return f"{architecture}-{_short(b''.join(norms[name] for name in sorted(norms)))}"


def _config(model_dir: Path) -> dict[str, Any]:
    try:
        parts = json.loads((model_dir / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{model_dir.name} has no readable config.json", "model") from error
    if not isinstance(parts, dict):
        raise InvalidRequest(f"config.json of {model_dir.name} is not an object", "model")
    return parts | (parts.get("text_config") or {})


def _shapes(config: dict[str, Any]) -> list[tuple[str, Any]]:
    found = (
        (names[0], [config[n] for n in names if config.get(n) is not None])
        for names in _SHAPE_FIELDS
    )
    return [(name, values[0]) for name, values in found if values]


def _norm_weights(model_dir: Path) -> dict[str, bytes]:
    paths = sorted(model_dir.glob("model*.safetensors"))
    weights: dict[str, bytes] = {}
    for path in paths:
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 - not a mapping
                    if _is_norm(name) and len(file.get_slice(name).get_shape()) == 1:
                        rounded = file.get_tensor(name).to(torch.bfloat16)
                        weights[_PREFIX.sub("", name)] = rounded.view(torch.uint8).numpy().tobytes()
        except (OSError, SafetensorError) as error:
            raise InvalidRequest(f"{path.name} cannot be read: {error}", "model") from error
    return weights


def _is_norm(name: str) -> bool:
    return name.endswith(".weight") and ("norm" in name or ".ln_" in name)


def _short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_HASH_CHARACTERS]
