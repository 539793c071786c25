"""What a request may ask for. The HTTP API's own schema is the oracle for the bounds."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from app.grpc_requests import RANGES, prompt_ids, sampling_of, timeout_of
from app.http_schemas import CompletionBody
from app.protos.flora.v1 import flora_pb2 as pb
from app.served_model import ServedModel
from contracts.adapters import DEFAULT_TENANT, TenantId
from contracts.errors import InvalidRequest, PromptTooLong
from contracts.generation import Sampling, Structure
from tests.app.parts import MAX_LEN, VOCAB, make_door

MODEL = make_door().models["tiny"]


def asks(**fields: Any) -> pb.GenerateRequest:
    return pb.GenerateRequest(model="tiny", text="hi", sampling=pb.Sampling(**fields))


async def read(request: pb.GenerateRequest, model: ServedModel = MODEL) -> Sampling:
    return await sampling_of(model, request, 2, DEFAULT_TENANT)


NUMBERS = st.one_of(
    st.sampled_from([0.0, 1.0, 2.0, -2.0, -0.0, 2.0001, -2.0001, 1e-9, 1e300]), st.floats(-3, 3)
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "temperature": NUMBERS,
    "top_p": NUMBERS,
    "min_p": NUMBERS,
    "presence_penalty": NUMBERS,
    "frequency_penalty": NUMBERS,
    "repetition_penalty": NUMBERS,
    "top_k": st.sampled_from([0, 1, 5, 100]),
    "n": st.sampled_from([0, 1, 64, 65]),
    "seed": st.sampled_from([-(2**63), -1, 0, 2**63 - 1]),
    "logprobs": st.sampled_from([0, 1, 20, 21]),
    "min_tokens": st.sampled_from([0, 1, 3]),
    "ignore_eos": st.booleans(),
    "stop": st.lists(st.text(max_size=3), max_size=18),
    "stop_token_ids": st.lists(st.integers(0, VOCAB - 1), max_size=66),
}


@settings(max_examples=300, deadline=None)
@given(st.fixed_dictionaries({}, optional=FIELDS))
async def test_what_http_accepts_is_accepted_and_means_the_same(fields: dict[str, Any]) -> None:
    try:
        body = CompletionBody(model="tiny", prompt="hi", max_tokens=3, **fields)
    except ValidationError:
        with pytest.raises(InvalidRequest):
            await read(asks(max_tokens=3, **fields))
        return
    found = await read(asks(max_tokens=3, **fields))
    expected = body.sampling(3)
    for name in ("max_tokens", *FIELDS):
        if name != "logprobs":
            assert getattr(found, name) == getattr(expected, name), name
    assert found.logprobs == fields.get("logprobs")


@pytest.mark.parametrize("name", sorted(RANGES))
async def test_every_bound_names_its_field(name: str) -> None:
    low, high = RANGES[name]
    field = pb.Sampling.DESCRIPTOR.fields_by_name[name]
    over: list[Any] = []
    if field.cpp_type == field.CPPTYPE_DOUBLE:
        over = [low - 0.001, high + 0.001, math.nan, math.inf, -math.inf]
    elif field.cpp_type == field.CPPTYPE_UINT32:
        over = [value for value in (low - 1, high + 1) if 0 <= value < 2**32]
    for value in over:
        with pytest.raises(InvalidRequest) as caught:
            await read(asks(**{name: value}))
        assert caught.value.param == name


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"stop": ["x" * 4097]}, "stop"),
        ({"stop_token_ids": [VOCAB]}, "stop_token_ids"),
        ({"logit_bias": {VOCAB: 1.0}}, "logit_bias"),
        ({"logit_bias": {1: 101.0}}, "logit_bias"),
        ({"logit_bias": {1: math.nan}}, "logit_bias"),
        ({"logit_bias": dict.fromkeys(range(1025), 0.0)}, "logit_bias"),
        ({"max_tokens": 3, "min_tokens": 4}, "min_tokens"),
    ],
)
async def test_what_only_the_model_can_judge_is_judged(fields: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await read(asks(**fields))
    assert caught.value.param == param


class Grammars:
    """Takes every structure but one."""

    def __init__(self) -> None:
        self.asked: list[tuple[Structure, str]] = []

    async def require(self, structure: Structure, param: str, tenant: TenantId) -> None:
        self.asked.append((structure, param))
        if structure.spec == "(":
            raise InvalidRequest("unbalanced", param)

    async def aclose(self) -> None:
        return


async def test_a_bound_on_the_text_is_judged_before_the_engine_hears_of_it() -> None:
    grammars = Grammars()
    model = make_door().models["tiny"]
    model.grammars = grammars
    for fields, structure in (
        ({"json_schema": "{}"}, Structure("json_schema", "{}")),
        ({"json_object": True}, Structure("json_object")),
        ({"regex": "a+"}, Structure("regex", "a+")),
        ({"grammar": 'root ::= "a"'}, Structure("grammar", 'root ::= "a"')),
        ({"one_of": pb.Alternatives(texts=["a", "b"])}, Structure("choice", '["a", "b"]')),
    ):
        assert (await read(asks(**fields), model)).structure == structure
        assert grammars.asked[-1] == (structure, next(iter(fields)))
    assert (await read(asks(json_object=False), model)).structure is None
    for wrong in ({"regex": "("}, {"regex": ""}, {"one_of": pb.Alternatives()}):
        with pytest.raises(InvalidRequest) as caught:
            await read(asks(**wrong), model)
        assert caught.value.param == next(iter(wrong))
    with pytest.raises(InvalidRequest, match="no structured output"):
        await read(asks(regex="a"))


async def test_an_answer_has_the_room_that_is_left() -> None:
    assert (await read(asks())).max_tokens == MAX_LEN - 2
    with pytest.raises(PromptTooLong):
        await read(asks(max_tokens=MAX_LEN - 1))
    with pytest.raises(PromptTooLong):
        await sampling_of(MODEL, asks(), MAX_LEN, DEFAULT_TENANT)


async def test_biases_are_pairs() -> None:
    assert (await read(asks(logit_bias={3: -1.5}))).logit_bias == ((3, -1.5),)


@pytest.mark.parametrize(
    ("prompt", "param"),
    [
        ({}, "prompt"),
        ({"token_ids": pb.TokenIds(ids=[1, VOCAB])}, "token_ids"),
        ({"conversation": pb.Conversation()}, "messages"),
        ({"conversation": pb.Conversation(messages=[{"role": "tool"}])}, "role"),
        ({"conversation": pb.Conversation(messages=[{"role": "user"}] * 4097)}, "messages"),
    ],
)
async def test_a_bad_prompt_names_its_field(prompt: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await prompt_ids(MODEL, pb.GenerateRequest(model="tiny", **prompt))
    assert caught.value.param == param


def test_the_requests_time_is_bounded_by_the_servers() -> None:
    assert timeout_of(pb.GenerateRequest(), 5.0) == 5.0
    assert timeout_of(pb.GenerateRequest(timeout_s=0.5), 5.0) == 0.5
    assert timeout_of(pb.GenerateRequest(timeout_s=50), 5.0) == 5.0
    for wrong in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(InvalidRequest):
            timeout_of(pb.GenerateRequest(timeout_s=wrong), 5.0)
