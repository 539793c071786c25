from dataclasses import fields, replace
from typing import Any

import pytest
from vllm.exceptions import VLLMClientError
from vllm.logprobs import Logprob
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind

from contracts.generation import Sampling, Structure, TokenDelta, TokenLogprob
from replicas.vllm_sampling import to_deltas, to_params, to_structured

PLAIN = Sampling(16)
CHANGES: dict[str, Any] = {
    "max_tokens": 7,
    "temperature": 0.5,
    "top_p": 0.25,
    "top_k": 11,
    "min_p": 0.125,
    "n": 3,
    "stop": ("a", "bc"),
    "stop_token_ids": (5, 6),
    "seed": 42,
    "logprobs": 2,
    "prompt_logprobs": 1,
    "presence_penalty": 0.75,
    "frequency_penalty": -0.75,
    "repetition_penalty": 1.5,
    "logit_bias": ((3, 1.5), (4, -2.0)),
    "min_tokens": 2,
    "ignore_eos": True,
    "structure": Structure("regex", "[a-z]+"),
    "allowed_token_ids": (7, 8),
    "bad_words": ("darn",),
    "include_stop_str_in_output": True,
    "skip_special_tokens": False,
    "spaces_between_special_tokens": False,
}
"""A value for every field, none of them its default."""


VLLM_NAMES = {"structure": "structured_outputs"}


def shown(value: Any) -> Any:
    """A value of ours as vLLM keeps it."""
    if isinstance(value, Structure):
        return to_structured(value)
    if isinstance(value, tuple):
        return dict(value) if value and isinstance(value[0], tuple) else list(value)
    return value


def test_no_field_is_left_out() -> None:
    assert CHANGES.keys() == {field.name for field in fields(Sampling)}
    assert all(CHANGES[name] != getattr(PLAIN, name) for name in CHANGES)


@pytest.mark.parametrize("name", CHANGES)
def test_each_field_reaches_vllm_and_moves_no_other(name: str) -> None:
    plain, changed = to_params(PLAIN), to_params(replace(PLAIN, **{name: CHANGES[name]}))
    field = VLLM_NAMES.get(name, name)
    assert getattr(changed, field) == shown(CHANGES[name]) != getattr(plain, field)
    for other in {VLLM_NAMES.get(name, name) for name in CHANGES} - {field}:
        assert getattr(changed, other) == getattr(plain, other)


@pytest.mark.parametrize(
    ("structure", "told"),
    [
        (Structure("json_object"), {"json_object": True}),
        (Structure("json_schema", '{"type": "null"}'), {"json": '{"type": "null"}'}),
        (Structure("choice", '["a", "b"]'), {"choice": ["a", "b"]}),
        (Structure("regex", "a+"), {"regex": "a+"}),
        (Structure("grammar", 'root ::= "a"'), {"grammar": 'root ::= "a"'}),
        (Structure("structural_tag", "{}"), {"structural_tag": "{}"}),
    ],
)
def test_a_structure_is_one_of_vllms_kinds(structure: Structure, told: dict[str, Any]) -> None:
    params = to_structured(structure)
    kinds = ("json", "json_object", "choice", "regex", "grammar", "structural_tag")
    assert {kind: getattr(params, kind) for kind in kinds if getattr(params, kind)} == told


def test_outputs_come_as_deltas() -> None:
    assert to_params(PLAIN).output_kind == RequestOutputKind.DELTA


def test_greedy() -> None:
    assert to_params(replace(PLAIN, temperature=0.0)).temperature == 0.0


@pytest.mark.parametrize(
    "refused", [{"top_p": 2.0}, {"max_tokens": 0}, {"n": 0}, {"min_tokens": 99}, {"top_k": -5}]
)
def test_what_vllm_refuses_is_a_callers_error(refused: dict[str, Any]) -> None:
    with pytest.raises(VLLMClientError, match=next(iter(refused))):
        to_params(replace(PLAIN, **refused))


def choice(index: int = 0, tokens: tuple[int, ...] = (8, 9), **changes: Any) -> CompletionOutput:
    return CompletionOutput(
        index,
        changes.pop("text", "eight nine"),
        tokens,
        None,
        changes.pop("logprobs", None),
        **changes,
    )


def output(*choices: CompletionOutput, **changes: Any) -> RequestOutput:
    parts = {"prompt_token_ids": [1, 2], "prompt_logprobs": None, "finished": False} | changes
    return RequestOutput("id", None, outputs=list(choices), **parts)


def test_every_choice_is_a_delta_at_the_requests_place() -> None:
    found = to_deltas(
        4, output(choice(0), choice(2, (), text="", finish_reason="stop", stop_reason=7)), 0, 0
    )
    assert found == [
        TokenDelta(4, 0, (8, 9), "eight nine"),
        TokenDelta(4, 2, finish_reason="stop", stop_reason=7),
    ]


@pytest.mark.parametrize(("told", "num_cached"), [(None, 0), (0, 0), (32, 32)])
def test_cached_tokens_are_counted(told: int | None, num_cached: int) -> None:
    (delta,) = to_deltas(0, output(choice(), num_cached_tokens=told), 0, 0)
    assert delta.num_cached_tokens == num_cached


ENTRY = {
    8: Logprob(-2.5, 5, "eight"),
    3: Logprob(-0.5, 1, "three"),
    2: Logprob(-1.5, 2, None),
}
"""A drawn token of rank 5 and the two best, in vLLM's order."""
BEST = ((3, "three", -0.5), (2, "", -1.5), (8, "eight", -2.5))


@pytest.mark.parametrize("num_top", [0, 1, 2])
def test_log_probabilities_are_the_drawn_tokens_and_the_best(num_top: int) -> None:
    (delta,) = to_deltas(0, output(choice(tokens=(8,), logprobs=[ENTRY])), num_top, 0)
    assert delta.logprobs == (TokenLogprob(8, "eight", -2.5, BEST[:num_top]),)


def test_a_drawn_token_among_the_best_is_named_once() -> None:
    (delta,) = to_deltas(0, output(choice(tokens=(3,), logprobs=[ENTRY])), 2, 0)
    assert delta.logprobs == (TokenLogprob(3, "three", -0.5, BEST[:2]),)


def test_prompt_log_probabilities_go_with_the_first_choice() -> None:
    prompt = [None, {2: Logprob(-0.25, 1, "two")}]
    first, second = to_deltas(0, output(choice(0), choice(1), prompt_logprobs=prompt), 0, 1)
    assert first.prompt_logprobs == (None, TokenLogprob(2, "two", -0.25, ((2, "two", -0.25),)))
    assert second.prompt_logprobs == ()
    (later,) = to_deltas(0, output(choice(0), prompt_logprobs=[]), 0, 1)
    assert later.prompt_logprobs == ()
