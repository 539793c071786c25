"""From messages to what the door knows: prompts and sampling, with the HTTP API's bounds."""

import json
from collections.abc import Collection

from app.prompts import room_for_answer
from app.protos.flora.v1 import flora_pb2 as pb
from app.served_model import ServedModel
from contracts.adapters import TenantId
from contracts.errors import InvalidRequest
from contracts.generation import Sampling, Structure, StructureKind

MAX_MESSAGES = 4096
MAX_STOPS = 16
MAX_STOP_CHARACTERS = 4096
MAX_STOP_TOKENS = 64
MAX_BIASES = 1024
MAX_BIAS = 100.0
MAX_ALTERNATIVES = 1024

RANGES: dict[str, tuple[float, float]] = {
    "max_tokens": (1, 2**31 - 1),
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "top_k": (0, 2**31 - 1),
    "min_p": (0.0, 1.0),
    "n": (1, 64),
    "seed": (-(2**63), 2**63 - 1),
    "logprobs": (0, 20),
    "prompt_logprobs": (0, 20),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
    "repetition_penalty": (0.0, 2.0),
    "min_tokens": (0, 2**31 - 1),
    "ignore_eos": (0, 1),
}
"""Field of Sampling to its least and its greatest value."""

_KINDS: dict[str, StructureKind] = {
    "json_schema": "json_schema",
    "regex": "regex",
    "grammar": "grammar",
}
_OVER_ZERO = ("top_p", "repetition_penalty")
_ROLES = ("system", "developer", "user", "assistant")


async def prompt_ids(model: ServedModel, request: pb.GenerateRequest) -> tuple[int, ...]:
    """The prompt's token ids. Raises InvalidRequest, NotReady."""
    kind = request.WhichOneof("prompt")
    if kind == "conversation":
        return await model.prompts.encode_chat(_messages(request.conversation))
    if kind == "text":
        return await model.prompts.encode_text(request.text)
    if kind == "token_ids":
        ids = tuple(request.token_ids.ids)
        _check_ids("token_ids", ids, (await model.info()).vocab_size)
        return ids
    raise InvalidRequest("one of 'conversation', 'text' and 'token_ids' is needed", "prompt")


async def sampling_of(
    model: ServedModel, request: pb.GenerateRequest, num_prompt_tokens: int, tenant: TenantId
) -> Sampling:
    """How to sample. Raises InvalidRequest that names the field, PromptTooLong, NotReady."""
    wire = request.sampling
    given = {name: getattr(wire, name) for name in RANGES if wire.HasField(name)}
    for name, value in given.items():
        low, high = RANGES[name]
        if not low <= value <= high or (value == 0 and name in _OVER_ZERO):
            above = "over" if name in _OVER_ZERO else "at least"
            raise _invalid(name, f"is {above} {low:g} and at most {high:g}")
    info = await model.info()
    wanted = given.pop("max_tokens", None)
    room = room_for_answer(num_prompt_tokens, wanted, info.max_model_len_tokens)
    if given.get("min_tokens", 0) > room:
        raise _invalid("min_tokens", f"is over the {room} tokens that the answer may have")
    return Sampling(
        max_tokens=room,
        structure=await _structure(model, wire, tenant),
        stop=_stops(wire),
        stop_token_ids=_stop_ids(wire, info.vocab_size),
        logit_bias=_biases(wire, info.vocab_size),
        **given,
    )


def timeout_of(request: pb.GenerateRequest, max_s: float) -> float:
    """How long the answer may take, in seconds. Raises InvalidRequest."""
    if not request.HasField("timeout_s"):
        return max_s
    if not 0 < request.timeout_s < float("inf"):
        raise InvalidRequest("'timeout_s' is over 0", "timeout_s")
    return min(request.timeout_s, max_s)


async def _structure(model: ServedModel, wire: pb.Sampling, tenant: TenantId) -> Structure | None:
    """The bound on the text, once it is known that the engine can keep to it."""
    name = wire.WhichOneof("structure")
    if name is None or (name == "json_object" and not wire.json_object):
        return None
    if name == "json_object":
        structure = Structure("json_object")
    elif name == "one_of":
        if not 1 <= len(wire.one_of.texts) <= MAX_ALTERNATIVES:
            raise _invalid(name, f"has 1 to {MAX_ALTERNATIVES} texts")
        structure = Structure("choice", json.dumps(list(wire.one_of.texts)))
    else:
        structure = Structure(_KINDS[name], getattr(wire, name))
    if not structure.spec and name != "json_object":
        raise _invalid(name, "is not empty")
    await model.grammars.require(structure, name, tenant)
    return structure


def _messages(conversation: pb.Conversation) -> list[dict[str, str]]:
    if not 1 <= len(conversation.messages) <= MAX_MESSAGES:
        raise InvalidRequest(f"a conversation has 1 to {MAX_MESSAGES} messages", "messages")
    for message in conversation.messages:
        if message.role not in _ROLES:
            raise InvalidRequest(f"'role' is one of {', '.join(_ROLES)}", "role")
    return [
        # Templates know the older word only.
        {"role": "system" if m.role == "developer" else m.role, "content": m.content}
        for m in conversation.messages
    ]


def _stops(wire: pb.Sampling) -> tuple[str, ...]:
    if len(wire.stop) > MAX_STOPS or any(len(text) > MAX_STOP_CHARACTERS for text in wire.stop):
        raise _invalid("stop", f"has at most {MAX_STOPS} texts of {MAX_STOP_CHARACTERS} characters")
    return tuple(text for text in wire.stop if text)


def _stop_ids(wire: pb.Sampling, vocab_size: int) -> tuple[int, ...]:
    if len(wire.stop_token_ids) > MAX_STOP_TOKENS:
        raise _invalid("stop_token_ids", f"has at most {MAX_STOP_TOKENS} tokens")
    _check_ids("stop_token_ids", wire.stop_token_ids, vocab_size)
    return tuple(wire.stop_token_ids)


def _biases(wire: pb.Sampling, vocab_size: int) -> tuple[tuple[int, float], ...]:
    if len(wire.logit_bias) > MAX_BIASES:
        raise _invalid("logit_bias", f"has at most {MAX_BIASES} tokens")
    if not all(-MAX_BIAS <= bias <= MAX_BIAS for bias in wire.logit_bias.values()):
        raise _invalid("logit_bias", f"has values from {-MAX_BIAS:g} to {MAX_BIAS:g}")
    _check_ids("logit_bias", wire.logit_bias.keys(), vocab_size)
    return tuple(wire.logit_bias.items())


def _check_ids(name: str, ids: Collection[int], vocab_size: int) -> None:
    if ids and max(ids) >= vocab_size:
        raise _invalid(name, f"has token ids below {vocab_size}")


def _invalid(name: str, bounds: str) -> InvalidRequest:
    return InvalidRequest(f"'{name}' {bounds}", name)
