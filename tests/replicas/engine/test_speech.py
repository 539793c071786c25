"""A real engine that listens: every kind of adapter in one batch, on encoder and decoder, is exact
against transformers with the adapter in its weights.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import WhisperForConditionalGeneration

from contracts.adapters import BASE, AdapterKey
from contracts.errors import InvalidRequest
from contracts.generation import GenerateRequest, Sampling, TokenLogprob
from flora.codec import decompile
from flora.linear import linear_modules, materialized
from flora.speech.data import Utterance
from flora.speech.listener import Listener
from tests.flora.speech.models import MAX_DURATION_S, make_noise, make_whisper_dir
from tests.replicas.engine.parts import Answer, Stack, make_config, make_keys, running

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(400),
    # vLLM leaves its sockets' context to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

NUM_SEQUENCES = 20
NUM_TOKENS = 12
TOLERANCE = 1e-3
SAMPLING = Sampling(NUM_TOKENS, temperature=0.0, logprobs=0, ignore_eos=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_whisper_dir(tmp_path_factory.mktemp("whisper"))


async def ask(stack: Stack, requests: Sequence[GenerateRequest]) -> list[Answer]:
    tokens: list[list[TokenLogprob]] = [[] for _ in requests]
    async for batch in stack.replica.generate(tuple(requests)):
        for delta in batch.deltas:
            if delta.error is not None:
                raise delta.error
            tokens[delta.index] += delta.logprobs
    return [
        Answer(tuple(t.token_id for t in got), tuple(t.logprob for t in got), 0) for got in tokens
    ]


async def test_a_batch_of_every_kind_is_exact(folder: Path, tmp_path: Path) -> None:
    listener = Listener(folder)
    config = make_config(folder, max_model_len_tokens=None, max_num_batched_tokens=256)
    async with running(config, tmp_path / "cache") as stack:
        keys, adapters = await make_keys(stack, NUM_SEQUENCES, 0.2)
        requests = make_requests(listener, keys)
        answers = await ask(stack, requests)
        await check_resumed(stack, requests[0], answers[0])
        await check_refusals(stack, requests[0])
        layout = stack.layout
    assert len(linear_modules(listener.model)) == sum(len(g.members) for g in layout.groups)
    models = {
        key: materialized(listener.model, decompile(layout, a.blob)) for key, a in adapters.items()
    }
    models[BASE] = listener.model
    worst: dict[str, float] = defaultdict(float)
    for key, request, answer in zip(keys, requests, answers, strict=True):
        off = apart(models[key], listener, request, answer)
        worst[key.name or "base"] = max(worst[key.name or "base"], off)
    print({name: f"{off:.1e}" for name, off in worst.items()})
    assert len(worst) == 9
    assert max(worst.values()) < TOLERANCE
    assert len({answer.token_ids for answer in answers}) > NUM_SEQUENCES // 2


def make_requests(listener: Listener, keys: Sequence[AdapterKey]) -> list[GenerateRequest]:
    """Every clip is in two requests, which have different adapters."""
    return [
        GenerateRequest(
            f"r{i}",
            key,
            listener.vocabulary.prompt("ru" if i % 3 else "en"),
            SAMPLING,
            audio=make_noise(i // 2, 0.3 + 0.06 * (i // 2)),
        )
        for i, key in enumerate(keys)
    ]


def apart(
    model: WhisperForConditionalGeneration,
    listener: Listener,
    request: GenerateRequest,
    answer: Answer,
) -> float:
    """How far the answer's log-probabilities are off."""
    features = listener.features([Utterance(request.audio, "ru", "")])
    ids = torch.tensor([[*request.prompt_token_ids, *answer.token_ids]])
    with torch.inference_mode():
        logits = model(input_features=features, decoder_input_ids=ids).logits[0]
    reference = torch.log_softmax(logits[len(request.prompt_token_ids) - 1 : -1].float(), -1)
    drawn = reference[torch.arange(NUM_TOKENS), torch.tensor(answer.token_ids)]
    return float((drawn - torch.tensor(answer.logprobs)).abs().max())


async def check_resumed(stack: Stack, request: GenerateRequest, answer: Answer) -> None:
    """Another replica goes on where the first one was lost."""
    first = answer.token_ids[:5]
    again = replace(request, request_id="again", resumed_token_ids=first)
    (rest,) = await ask(stack, [again])
    assert rest.token_ids == answer.token_ids[5:]
    assert rest.logprobs == pytest.approx(answer.logprobs[5:], abs=1e-3)


async def check_refusals(stack: Stack, request: GenerateRequest) -> None:
    too_long = replace(request, request_id="long", audio=make_noise(0, MAX_DURATION_S + 0.1))
    for bad, reason in (
        (replace(request, request_id="text", audio=b""), "audio/transcriptions"),
        (too_long, "longer than 1 s"),
    ):
        with pytest.raises(InvalidRequest, match=reason):
            await ask(stack, [bad])
