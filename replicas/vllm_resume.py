"""Answers that go on behind their first tokens, inside vLLM.

vLLM runs a preempted request again with the output that it has had, and a resumed request looks the
same to it: prompt and sampling are those of the whole answer, and what another replica has made is
output already. So its limits, penalties and bad words count those tokens, and the text goes on in
the middle of a character or of a stop string. The tokens travel in the request's parameters, and
each part of vLLM that keeps a state of the request takes them from there as it makes that state.

A seeded answer goes on with the numbers that it would have drawn, except on a GPU with vLLM's older
model runner, which goes on with others.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import torch
from vllm import SamplingParams
from vllm.logprobs import append_logprobs_for_next_position
from vllm.v1.engine import EngineCoreRequest
from vllm.v1.engine.detokenizer import IncrementalDetokenizer
from vllm.v1.engine.logprobs import LogprobsProcessor
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager
from vllm.v1.structured_output.backend_types import StructuredOutputGrammar
from vllm.v1.worker.gpu_input_batch import CachedRequestState

_KEY = "flora_resumed_token_ids"
# The longest character in UTF-8 has four bytes, and a token at least one.
_NUM_CONTEXT_TOKENS = 4


def resumed_args(token_ids: Sequence[int]) -> dict[str, Any] | None:
    """`SamplingParams.extra_args` of a request whose answer begins with `token_ids`."""
    return {_KEY: list(token_ids)} if token_ids else None


def resumed_of(params: SamplingParams | None) -> list[int]:
    """The tokens that `resumed_args` was told; none for everybody else's request."""
    extra_args = None if params is None else params.extra_args
    return list((extra_args or {}).get(_KEY, ()))


def install() -> None:
    """Teach this process's vLLM to resume. Requests that resume nothing are not touched."""
    _then(Request, "from_engine_core_request", _resume_scheduling)
    _then(StructuredOutputManager, "_create_grammar", _resume_grammar)
    _then(CachedRequestState, "__post_init__", _resume_model_input)
    _then(IncrementalDetokenizer, "from_new_request", _resume_text)
    _then(LogprobsProcessor, "from_new_request", _resume_logprobs)


def _then(owner: type, name: str, go_on: Callable[..., None]) -> None:
    """Call `go_on(result, *arguments)` after each call of a method."""
    method = vars(owner)[name]
    original = getattr(method, "__func__", method)

    @wraps(original)
    def resuming(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        go_on(result, *args, **kwargs)
        return result

    setattr(owner, name, classmethod(resuming) if isinstance(method, classmethod) else resuming)


def _resume_scheduling(request: Request, *_: object) -> None:
    if token_ids := resumed_of(request.sampling_params):
        request.append_output_token_ids(token_ids)
        # Told with the answer's first token. Nor may more than the prompt count as cached.
        request.prefill_stats = None


def _resume_grammar(grammar: StructuredOutputGrammar, _: object, request: Request) -> None:
    token_ids = resumed_of(request.sampling_params)
    if not grammar.accept_tokens(request.request_id, token_ids):
        raise ValueError("The answer breaks its structure already.")


def _resume_model_input(_: None, state: CachedRequestState) -> None:
    """For the older model runner; the other one gets all tokens from the scheduler."""
    if not (token_ids := resumed_of(state.sampling_params)):
        return
    state.output_token_ids.extend(token_ids)
    if state.generator is not None:
        _skip(state.generator, len(token_ids))


def _skip(generator: torch.Generator, num_tokens: int) -> None:
    """Leave out the numbers that `num_tokens` have taken: the sampler for CPUs draws one each."""
    if generator.device.type != "cpu":
        generator.manual_seed((generator.initial_seed() + num_tokens) % (1 << 63))
        return
    for _ in range(num_tokens):
        torch.randint(0, 1 << 31, (1,), generator=generator)


def _resume_text(
    detokenizer: IncrementalDetokenizer, _: object, *, tokenizer: object, request: EngineCoreRequest
) -> None:
    if token_ids := resumed_of(request.sampling_params):
        detokenizer.update(token_ids, False)
        # Its reader has this text.
        detokenizer.get_next_output_text(finished=False, delta=True)


def _resume_logprobs(
    processor: LogprobsProcessor, _: object, *, tokenizer: object, request: EngineCoreRequest
) -> None:
    """The last tokens, of any probability: the next one's text may begin with their bytes."""
    if processor.logprobs is None:
        return
    for token_id in resumed_of(request.sampling_params)[-_NUM_CONTEXT_TOKENS:]:
        append_logprobs_for_next_position(processor.logprobs, [token_id], [0.0], [""], 1, 0)
