"""Models that listen, in vLLM: audio into requests, and adapters on the encoder's side.

vLLM runs the encoder before the decoder, over the clips of the requests that begin in a step, and
gives the decoder's cross-attention their positions in one row. What reads these positions has slots
of its own: a clip's positions have the slot of its request's adapter. vLLM keeps no encoder output
and no KV block of an encoder-decoder model for another request, so nothing leaks between adapters.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vllm.config import ModelConfig
from vllm.inputs import tokens_input

from contracts.errors import InvalidRequest, ServiceError
from contracts.generation import GenerateRequest
from flora.speech.audio import SAMPLE_RATE_HZ, duration_s, from_pcm

# Whisper's frames are 10 ms apart, and its second convolution takes every other one.
_POSITION_S = 0.02
_RUN_ENCODER = "_execute_mm_encoder"


@dataclass(frozen=True, slots=True)
class EncoderTokens:
    """One clip's positions in the encoder. Adapter 0 is the base model."""

    adapter_id: int
    num_tokens: int


def max_audio_s(config: ModelConfig) -> float:
    """How much of a clip the model hears; 0 for a model of text."""
    if not config.is_encoder_decoder:
        return 0.0
    return float(config.hf_config.max_source_positions * _POSITION_S)


def to_prompt(request: GenerateRequest, config: ModelConfig) -> Any:
    """The request's prompt as vLLM takes it. Raises InvalidRequest where model and audio differ."""
    most_s = max_audio_s(config)
    token_ids = list(request.prompt_token_ids)
    if not request.audio and not most_s:
        return tokens_input(token_ids)
    if not most_s:
        raise InvalidRequest("This model takes no audio.", "model")
    if not request.audio:
        raise InvalidRequest("This model writes down audio: use /v1/audio/transcriptions.", "model")
    if duration_s(request.audio) > most_s:
        raise InvalidRequest(f"The audio lasts longer than {most_s:g} s.", "file")
    audio = (from_pcm(request.audio), SAMPLE_RATE_HZ)
    return {
        "encoder_prompt": {"prompt": "", "multi_modal_data": {"audio": audio}},
        "decoder_prompt": {"prompt_token_ids": token_ids},
    }


def take_prompts_whole(llm: Any) -> None:
    """Have vLLM read the decoder's prompt as it is: text that went before comes before the token
    that vLLM would else put in front.
    """
    llm.renderer.mm_processor.skip_decoder_start_token = True


def reads_encoder(name: str) -> bool:
    """Whether a linear layer of a loaded model reads positions of clips instead of tokens."""
    return ".encoder." in name or name.endswith(".encoder_attn.kv_proj")


def follow_encoder(runner: Any, tell: Callable[[Sequence[EncoderTokens]], None]) -> None:
    """Have `runner` say whose clips its encoder is about to hear, and in what order.

    That order becomes the one of the batch: cross-attention stores what comes of the clips by
    their requests' places there, whereas vLLM hears them in the order in which they were scheduled,
    which is another where a preempted request comes back beside a new one. Raises ServiceError for
    a runner that runs its encoder in another way.
    """
    if not hasattr(runner, _RUN_ENCODER):
        raise ServiceError(
            "models that listen are served by vLLM's older model runner alone:"
            " set VLLM_USE_V2_MODEL_RUNNER=0"
        )
    run = getattr(runner, _RUN_ENCODER)

    def run_in_order(scheduled: Any) -> Any:
        batch, inputs = runner.input_batch, scheduled.scheduled_encoder_inputs
        order = sorted(inputs, key=batch.req_id_to_index.__getitem__)
        scheduled.scheduled_encoder_inputs = {
            request_id: inputs[request_id] for request_id in order
        }
        tell(
            [
                EncoderTokens(
                    int(batch.request_lora_mapping[batch.req_id_to_index[request_id]]),
                    runner.requests[request_id].mm_features[i].mm_position.get_num_embeds(),
                )
                for request_id in order
                for i in inputs[request_id]
            ]
        )
        return run(scheduled)

    setattr(runner, _RUN_ENCODER, run_in_order)
