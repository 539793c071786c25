"""Our words for sampling and tokens, in vLLM's."""

import json
from collections.abc import Mapping, Sequence

from vllm import SamplingParams
from vllm.logprobs import Logprob
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

from contracts.generation import Sampling, Structure, TokenDelta, TokenLogprob
from replicas.vllm_resume import resumed_args


def to_params(sampling: Sampling, resumed_token_ids: Sequence[int] = ()) -> SamplingParams:
    """Raises VLLMClientError, or ValueError, for what vLLM refuses.

    `resumed_token_ids`: the answer's first tokens, where another replica has made them. The
    log-probabilities of the prompt have come with the first one.
    """
    return SamplingParams(
        n=sampling.n,
        max_tokens=sampling.max_tokens,
        min_tokens=sampling.min_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        seed=sampling.seed,
        stop=list(sampling.stop),
        stop_token_ids=list(sampling.stop_token_ids),
        ignore_eos=sampling.ignore_eos,
        logprobs=sampling.logprobs,
        prompt_logprobs=None if resumed_token_ids else sampling.prompt_logprobs,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        repetition_penalty=sampling.repetition_penalty,
        logit_bias=dict(sampling.logit_bias) or None,
        allowed_token_ids=list(sampling.allowed_token_ids) or None,
        bad_words=list(sampling.bad_words) or None,
        include_stop_str_in_output=sampling.include_stop_str_in_output,
        skip_special_tokens=sampling.skip_special_tokens,
        spaces_between_special_tokens=sampling.spaces_between_special_tokens,
        structured_outputs=to_structured(sampling.structure) if sampling.structure else None,
        output_kind=RequestOutputKind.DELTA,
        extra_args=resumed_args(resumed_token_ids),
    )


def to_structured(structure: Structure) -> StructuredOutputsParams:
    """Raises VLLMClientError, or ValueError, for what is not even well-formed."""
    kind, spec = structure.kind, structure.spec
    if kind == "json_object":
        return StructuredOutputsParams(json_object=True)
    if kind == "json_schema":
        return StructuredOutputsParams(json=spec)
    if kind == "choice":
        return StructuredOutputsParams(choice=json.loads(spec))
    if kind == "regex":
        return StructuredOutputsParams(regex=spec)
    if kind == "grammar":
        return StructuredOutputsParams(grammar=spec)
    return StructuredOutputsParams(structural_tag=spec)


def to_deltas(
    index: int, output: RequestOutput, num_top: int, num_prompt_top: int
) -> list[TokenDelta]:
    """One engine output of a request as deltas, a choice each, addressed to place `index`."""
    prompt = tuple(
        None if entry is None else _logprob(token, entry, num_prompt_top)
        for token, entry in zip(
            output.prompt_token_ids or (), output.prompt_logprobs or (), strict=False
        )
    )
    return [
        TokenDelta(
            index,
            choice.index,
            tuple(choice.token_ids),
            choice.text,
            _logprobs(choice, num_top),
            choice.finish_reason,
            choice.stop_reason,
            output.num_cached_tokens or 0,
            prompt if choice.index == 0 else (),
        )
        for choice in output.outputs
    ]


def _logprobs(choice: CompletionOutput, num_top: int) -> tuple[TokenLogprob, ...]:
    if choice.logprobs is None:
        return ()
    pairs: Sequence[tuple[int, Mapping[int, Logprob]]] = list(
        zip(choice.token_ids, choice.logprobs, strict=False)
    )
    return tuple(_logprob(token, entry, num_top) for token, entry in pairs)


def _logprob(token: int, entry: Mapping[int, Logprob], num_top: int) -> TokenLogprob:
    ranked = sorted(entry.items(), key=lambda item: item[1].rank or 0)
    top = tuple((i, lp.decoded_token or "", lp.logprob) for i, lp in ranked[:num_top])
    own = entry[token]
    return TokenLogprob(token, own.decoded_token or "", own.logprob, top)
