"""What vLLM keeps of a request is the same in the middle of an answer as behind its first part."""

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer
from vllm.v1.engine import EngineCoreRequest
from vllm.v1.engine.detokenizer import IncrementalDetokenizer
from vllm.v1.engine.logprobs import LogprobsProcessor
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager
from vllm.v1.worker.gpu_input_batch import CachedRequestState

from contracts.generation import Sampling, Structure
from replicas.vllm_plugin import register
from replicas.vllm_resume import resumed_args, resumed_of
from replicas.vllm_sampling import to_params
from tests.replicas.engine.models import SMOLLM2

PROMPT = [1, 4093, 198]
PLAIN = Sampling(64, temperature=0.0)


@pytest.fixture(autouse=True, scope="module")
def installed() -> None:
    register()


@cache
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(SMOLLM2)


def core_request(sampling: Sampling, resumed: list[int]) -> EngineCoreRequest:
    return EngineCoreRequest(
        request_id="r",
        prompt_token_ids=list(PROMPT),
        mm_features=None,
        sampling_params=to_params(sampling, resumed),
        pooling_params=None,
        arrival_time=0.0,
        lora_request=None,
        cache_salt=None,
        data_parallel_rank=None,
        external_req_id="r",
    )


TEXTS = st.lists(
    st.sampled_from(
        ["a", "b", "ab", " ", "stop", "sto", "é", "漢字", "👩‍👩‍👧", "🇪🇺", "\n", "<|im_end|>"]
    ),
    min_size=1,
    max_size=12,
).map("".join)
ANSWERS = st.one_of(
    TEXTS.map(lambda text: tokenizer().encode(text)),
    # Single bytes among them: characters that never become whole.
    st.lists(st.integers(0, 400), min_size=1, max_size=20),
)
SAMPLINGS = st.builds(
    Sampling,
    st.just(64),
    stop=st.lists(
        st.sampled_from(["stop", "ab", "b a", "字", "👧", "aab", "st\n"]), max_size=2, unique=True
    ).map(tuple),
    min_tokens=st.integers(0, 6),
    include_stop_str_in_output=st.booleans(),
    skip_special_tokens=st.booleans(),
    spaces_between_special_tokens=st.booleans(),
)


def read(
    sampling: Sampling, resumed: list[int], token_ids: list[int]
) -> tuple[list[str], str | None, int]:
    """The text of each token until a stop string, that string, and how many tokens there were."""
    detokenizer = IncrementalDetokenizer.from_new_request(
        tokenizer=tokenizer(), request=core_request(sampling, resumed)
    )
    texts: list[str] = []
    for token_id in token_ids:
        stop = detokenizer.update([token_id], False)
        is_last = stop is not None or len(texts) + 1 == len(token_ids)
        texts.append(detokenizer.get_next_output_text(is_last, True))
        if stop is not None:
            return texts, stop, detokenizer.num_output_tokens()
    return texts, None, detokenizer.num_output_tokens()


@settings(deadline=None, max_examples=300)
@given(ANSWERS, SAMPLINGS, st.data())
def test_text_goes_on_as_if_it_had_not_been_cut(
    answer: list[int], sampling: Sampling, data: st.DataObject
) -> None:
    texts, stop, num_tokens = read(sampling, [], answer)
    cut = data.draw(st.integers(0, len(texts) - 1))
    assert read(sampling, answer[:cut], answer[cut:]) == (texts[cut:], stop, num_tokens)


@pytest.mark.parametrize("include", [False, True])
def test_a_stop_string_may_begin_before_the_cut(include: bool) -> None:
    sampling = replace(PLAIN, stop=("lo wor",), include_stop_str_in_output=include)
    answer = [tokenizer().encode(text)[0] for text in ("h", "el", "lo", " w", "or", "ld")]
    for cut in range(5):
        texts, stop, num_tokens = read(sampling, answer[:cut], answer[cut:])
        assert (stop, num_tokens) == ("lo wor", 5)
        shown = "".join(read(sampling, [], answer)[0][:cut]) + "".join(texts)
        assert shown == ("hello wor" if include else "hel")


def drawn(processor: LogprobsProcessor, token_ids: list[int]) -> list[str | None]:
    """The text of each token among its log-probabilities."""
    for token_id in token_ids:
        row = [[token_id, 5]]
        lists = (torch.tensor(row).numpy(), torch.tensor([[-0.5, -1.0]]).numpy())
        processor._update_sample_logprobs((*lists, torch.tensor([1]).numpy(), None))
    assert processor.logprobs is not None
    entries = list(processor.logprobs)[-len(token_ids) :]
    return [entry[t].decoded_token for entry, t in zip(entries, token_ids, strict=True)]


def make_processor(resumed: list[int], num_logprobs: int | None = 1) -> LogprobsProcessor:
    request = core_request(replace(PLAIN, logprobs=num_logprobs), resumed)
    return LogprobsProcessor.from_new_request(tokenizer=tokenizer(), request=request)


@settings(deadline=None, max_examples=100)
@given(ANSWERS, st.data())
def test_a_tokens_text_among_its_log_probabilities(answer: list[int], data: st.DataObject) -> None:
    whole = drawn(make_processor([]), answer)
    cut = data.draw(st.integers(0, len(answer) - 1))
    assert drawn(make_processor(answer[:cut]), answer[cut:]) == whole[cut:]


def test_who_asks_for_no_log_probabilities_has_none() -> None:
    assert make_processor([7, 8], None).logprobs is None


def test_the_scheduler_counts_from_the_answers_beginning() -> None:
    sampling = replace(PLAIN, max_tokens=9, min_tokens=3)
    request = Request.from_engine_core_request(core_request(sampling, [7, 8]), None)
    assert (request.prompt_token_ids, list(request.output_token_ids)) == (PROMPT, [7, 8])
    assert list(request.all_token_ids) == [*PROMPT, 7, 8]
    assert (request.max_tokens, request.num_output_tokens, request.num_tokens) == (9, 2, 5)
    assert request.prefill_stats is None
    fresh = Request.from_engine_core_request(core_request(sampling, []), None)
    assert (fresh.num_output_tokens, fresh.prefill_stats is None) == (0, False)


def model_input(resumed: list[int], seed: int | None = None) -> CachedRequestState:
    generator = None
    if seed is not None:
        generator = torch.Generator()
        generator.manual_seed(seed)
    return CachedRequestState(
        req_id="r",
        prompt_token_ids=list(PROMPT),
        mm_features=[],
        sampling_params=to_params(PLAIN, resumed),
        generator=generator,
        block_ids=([0],),
        num_computed_tokens=0,
        output_token_ids=[],
    )


def test_the_model_reads_them_as_output() -> None:
    state = model_input([7, 8])
    assert (state.num_prompt_tokens, state.output_token_ids, state.num_tokens) == (3, [7, 8], 5)
    assert model_input([]).output_token_ids == []


@given(st.integers(0, 2**63 - 1), st.integers(0, 20))
def test_a_seed_goes_on_drawing_where_it_was(seed: int, num_resumed: int) -> None:
    def draw(state: CachedRequestState, count: int) -> list[int]:
        bounds = (0, 1 << 31, (1,))
        return [int(torch.randint(*bounds, generator=state.generator)) for _ in range(count)]

    whole = draw(model_input([], seed), 24)
    assert draw(model_input([7] * num_resumed, seed), 24 - num_resumed) == whole[num_resumed:]


class Grammar:
    """Accepts ascending tokens."""

    def __init__(self) -> None:
        self.accepted: list[int] = []

    def accept_tokens(self, request_id: str, tokens: list[int]) -> bool:
        self.accepted += tokens
        return self.accepted == sorted(self.accepted)


class Backend:
    def compile_grammar(self, *_: object, **__: object) -> Grammar:
        return Grammar()


def make_grammar(resumed: list[int]) -> Any:
    sampling = replace(PLAIN, structure=Structure("regex", "a+"))
    manager = StructuredOutputManager.__new__(StructuredOutputManager)
    manager.backend = Backend()
    request = Request.from_engine_core_request(core_request(sampling, resumed), None)
    return manager._create_grammar(request)


def test_a_grammar_has_read_them() -> None:
    assert make_grammar([3, 4]).accepted == [3, 4]
    assert make_grammar([]).accepted == []
    with pytest.raises(ValueError, match="breaks its structure"):
        make_grammar([4, 3])


def test_parameters_are_those_of_the_whole_answer() -> None:
    sampling = replace(PLAIN, max_tokens=9, min_tokens=3, frequency_penalty=0.5)
    whole, resumed = to_params(sampling), to_params(sampling, (7, 8))
    assert (resumed_of(whole), resumed_of(resumed), resumed_of(None)) == ([], [7, 8], [])
    assert (resumed.max_tokens, resumed.min_tokens, resumed.frequency_penalty) == (9, 3, 0.5)
    assert (whole.extra_args, resumed_args(())) == (None, None)
    with_prompt = replace(sampling, prompt_logprobs=1)
    assert to_params(with_prompt).prompt_logprobs == 1
    assert to_params(with_prompt, (7, 8)).prompt_logprobs is None


def test_it_is_installed_once() -> None:
    names = {Request: "from_engine_core_request", StructuredOutputManager: "_create_grammar"}
    before = [vars(owner)[name] for owner, name in names.items()]
    register()
    assert [vars(owner)[name] for owner, name in names.items()] == before
