"""What the plugin tells of clips, without an engine: whose they are, and in what order."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from vllm.config import ModelConfig

from contracts.adapters import BASE
from contracts.errors import InvalidRequest, ServiceError
from contracts.generation import GenerateRequest, Sampling
from replicas.vllm_speech import (
    EncoderTokens,
    follow_encoder,
    max_audio_s,
    reads_encoder,
    to_prompt,
)

TEXT = cast(ModelConfig, SimpleNamespace(is_encoder_decoder=False))
LISTENS = cast(
    ModelConfig,
    SimpleNamespace(is_encoder_decoder=True, hf_config=SimpleNamespace(max_source_positions=1500)),
)


def make_request(audio: bytes = b"") -> GenerateRequest:
    return GenerateRequest("r", BASE, (1, 2), Sampling(3), audio=audio)


class Runner:
    """Requests a, b and c of the batch, in that order, with adapters 7, 0 and 9."""

    def __init__(self) -> None:
        self.input_batch = SimpleNamespace(
            req_id_to_index={"a": 0, "b": 1, "c": 2}, request_lora_mapping=np.array([7, 0, 9])
        )
        position = SimpleNamespace(get_num_embeds=lambda: 50)
        feature = SimpleNamespace(mm_position=position)
        self.requests = {name: SimpleNamespace(mm_features=[feature]) for name in "abc"}
        self.ran: list[Any] = []

    def _execute_mm_encoder(self, scheduled: Any) -> str:
        self.ran.append(scheduled)
        return "states"


def test_clips_are_heard_in_the_order_of_the_batch() -> None:
    runner = Runner()
    told: list[Sequence[EncoderTokens]] = []
    follow_encoder(runner, told.append)
    scheduled = SimpleNamespace(scheduled_encoder_inputs={"c": [0], "a": [0]})
    assert runner._execute_mm_encoder(scheduled) == "states"
    assert list(runner.ran[0].scheduled_encoder_inputs) == ["a", "c"]
    assert told == [[EncoderTokens(7, 50), EncoderTokens(9, 50)]]


def test_a_runner_of_another_kind_is_refused() -> None:
    with pytest.raises(ServiceError, match="VLLM_USE_V2_MODEL_RUNNER"):
        follow_encoder(object(), lambda tokens: None)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.encoder.layers.0.self_attn.qkv_proj", True),
        ("model.encoder.layers.5.mlp.fc1", True),
        ("model.decoder.layers.0.encoder_attn.kv_proj", True),
        ("model.decoder.layers.0.encoder_attn.q_proj", False),
        ("model.decoder.layers.0.encoder_attn.out_proj", False),
        ("model.decoder.layers.0.self_attn.qkv_proj", False),
        ("model.layers.0.self_attn.qkv_proj", False),
    ],
)
def test_which_layers_read_clips(name: str, expected: bool) -> None:
    assert reads_encoder(name) == expected


def test_prompts() -> None:
    assert (max_audio_s(TEXT), max_audio_s(LISTENS)) == (0.0, 30.0)
    assert to_prompt(make_request(), TEXT)["prompt_token_ids"] == [1, 2]
    prompt = to_prompt(make_request(b"\0\0" * 8), LISTENS)
    assert prompt["decoder_prompt"] == {"prompt_token_ids": [1, 2]}
    samples, rate_hz = prompt["encoder_prompt"]["multi_modal_data"]["audio"]
    assert (samples.tolist(), rate_hz) == ([0.0] * 8, 16000)
    for request, config, reason in (
        (make_request(), LISTENS, "audio/transcriptions"),
        (make_request(b"\0\0"), TEXT, "takes no audio"),
        (make_request(bytes(2 * 16000 * 30 + 2)), LISTENS, "longer than 30 s"),
    ):
        with pytest.raises(InvalidRequest, match=reason):
            to_prompt(request, config)
