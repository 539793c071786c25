"""The speech model's weights by other names; making the folder is `make speech`."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

from app import demo_whisper
from app.demo_whisper import _REQUIRED, find_part, hugging_face_weights, prepare_demo_whisper
from contracts.errors import InvalidRequest


def by_ctranslate2(model: WhisperForConditionalGeneration) -> dict[str, np.ndarray]:
    """A model's weights as CTranslate2's converter names and stacks them."""
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    found = {
        "decoder/embeddings/weight": state["model.decoder.embed_tokens.weight"],
        "encoder/conv1/weight": state["model.encoder.conv1.weight"],
        "encoder/conv1/bias": state["model.encoder.conv1.bias"],
        "encoder/conv2/weight": state["model.encoder.conv2.weight"],
        "encoder/conv2/bias": state["model.encoder.conv2.bias"],
    }

    def norm(theirs: str, ours: str) -> None:
        found[f"{theirs}/gamma"] = state[f"{ours}.weight"]
        found[f"{theirs}/beta"] = state[f"{ours}.bias"]

    def stack(theirs: str, *ours: str) -> None:
        weights = [state[f"{name}.weight"] for name in ours]
        found[f"{theirs}/weight"] = np.concatenate(weights)
        biases = [
            state.get(f"{name}.bias", np.zeros(len(w), np.float32))
            for name, w in zip(ours, weights, strict=True)
        ]
        found[f"{theirs}/bias"] = np.concatenate(biases)

    for side in ("encoder", "decoder"):
        found[f"{side}/position_encodings/encodings"] = state[
            f"model.{side}.embed_positions.weight"
        ]
        norm(f"{side}/layer_norm", f"model.{side}.layer_norm")
        for i in range(6):
            at, layer = f"{side}/layer_{i}", f"model.{side}.layers.{i}"
            own, cross = f"{layer}.self_attn", f"{layer}.encoder_attn"
            stack(f"{at}/self_attention/linear_0", *(f"{own}.{x}_proj" for x in "qkv"))
            stack(f"{at}/self_attention/linear_1", f"{own}.out_proj")
            stack(f"{at}/ffn/linear_0", f"{layer}.fc1")
            stack(f"{at}/ffn/linear_1", f"{layer}.fc2")
            norm(f"{at}/self_attention/layer_norm", f"{own}_layer_norm")
            norm(f"{at}/ffn/layer_norm", f"{layer}.final_layer_norm")
            if side == "decoder":
                stack(f"{at}/attention/linear_0", f"{cross}.q_proj")
                stack(f"{at}/attention/linear_1", f"{cross}.k_proj", f"{cross}.v_proj")
                stack(f"{at}/attention/linear_2", f"{cross}.out_proj")
                norm(f"{at}/attention/layer_norm", f"{cross}_layer_norm")
    return found


def test_every_weight_finds_its_place() -> None:
    config = WhisperConfig(
        vocab_size=99, d_model=16, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_layers=6, decoder_layers=6, encoder_ffn_dim=24, decoder_ffn_dim=24,
        num_mel_bins=4, max_source_positions=10, max_target_positions=12,
        pad_token_id=0, bos_token_id=0, eos_token_id=0, decoder_start_token_id=1,
        suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    found = hugging_face_weights(by_ctranslate2(model))
    state = {k: v for k, v in model.state_dict().items() if k != "proj_out.weight"}
    assert set(found) == set(state)
    for name, value in state.items():
        np.testing.assert_array_equal(found[name], value.numpy())


def test_a_complete_folder_is_left_alone(tmp_path: Path) -> None:
    for name in _REQUIRED:
        (tmp_path / name).write_bytes(b"x")
    assert not prepare_demo_whisper(tmp_path)


def test_parts_are_found_without_importing_their_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "whisper_carrier"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    (package / "data" / "model.bin.part2").write_bytes(b"x")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(demo_whisper, "_PACKAGES", ("no_such_package", "whisper_carrier"))
    assert find_part(2) == package / "data" / "model.bin.part2"
    with pytest.raises(InvalidRequest, match="make speech"):
        prepare_demo_whisper(tmp_path / "model")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["whisper_carrier"]
