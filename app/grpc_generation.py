"""The service flora.v1.Generation over a door."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from app.answer import Answer
from app.ask import Ask
from app.door import Door
from app.grpc_answers import (
    adapter_version,
    choice_of,
    prompt_logprobs_of,
    usage_of,
    whole_choice,
)
from app.grpc_requests import prompt_ids, sampling_of, timeout_of
from app.model_name import ModelName
from app.protos.flora.v1 import flora_pb2 as pb
from app.resume import require_resumable
from contracts.access import Caller
from contracts.errors import DeadlineExceeded


@dataclass(frozen=True, slots=True)
class Opened:
    """An admitted call: its answer's id, the model as asked for, and the answer."""

    id: str
    name: ModelName
    answer: Answer


async def generate(door: Door, caller: Caller, request: pb.GenerateRequest) -> pb.GenerateResponse:
    """One whole answer. Raises ServingError."""
    async with _opened(door, caller, request) as opened:
        choices = await opened.answer.collect()
        return pb.GenerateResponse(
            id=opened.id,
            adapter=adapter_version(opened.name, opened.answer.adapter),
            choices=[whole_choice(index, choice) for index, choice in enumerate(choices)],
            usage=usage_of(opened.answer.usage),
            prompt_logprobs=prompt_logprobs_of([d for choice in choices for d in choice.deltas]),
        )


async def generate_stream(
    door: Door, caller: Caller, request: pb.GenerateRequest
) -> AsyncGenerator[pb.GenerateStreamResponse, None]:
    """One message per burst of tokens, and one with the usage. Raises ServingError."""
    async with _opened(door, caller, request) as opened:
        is_first = True
        while (burst := await opened.answer.next()) is not None:
            deltas = burst[1]
            message = pb.GenerateStreamResponse(deltas=[choice_of(d.choice, d) for d in deltas])
            if is_first:
                message.MergeFrom(
                    pb.GenerateStreamResponse(
                        id=opened.id,
                        adapter=adapter_version(opened.name, opened.answer.adapter),
                        prompt_logprobs=prompt_logprobs_of(deltas),
                    )
                )
                is_first = False
            yield message
        yield pb.GenerateStreamResponse(usage=usage_of(opened.answer.usage))


@asynccontextmanager
async def _opened(door: Door, caller: Caller, request: pb.GenerateRequest) -> AsyncIterator[Opened]:
    """Admit `request`; whatever of it still runs at the end is stopped.

    A call that its client cancels, or whose deadline has passed, ends here as CancelledError.
    """
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    name = door.model(request.model)
    adapter = name.ref(caller)
    model = door.served(name)
    model.require_room(caller)
    timeout_s = timeout_of(request, door.limits.request_timeout_s)
    prompt = await prompt_ids(model, request)
    sampling = await sampling_of(model, request, len(prompt), caller.tenant)
    resumed = tuple(request.resume_token_ids)
    require_resumable(resumed, sampling, (await model.info()).vocab_size)
    answer_id = f"gen-{door.new_id()}"
    ask = Ask(
        f"{answer_id}-0",
        request.model,
        adapter,
        prompt,
        sampling,
        caller,
        resumed_token_ids=resumed,
    )
    answer = Answer(await door.open(model, [ask]), sampling.n, ask.num_input_tokens)
    late = DeadlineExceeded(f"The answer took longer than {timeout_s:g} s.")
    timer = loop.call_at(began_s + timeout_s, answer.expire, late)
    try:
        yield Opened(answer_id, name, answer)
    finally:
        timer.cancel()
        answer.close()
