"""POST /v1/audio/transcriptions."""

import asyncio
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import ValidationError
from starlette.responses import Response

from app.answer import Answer
from app.ask import Ask
from app.door import Door
from app.http_audio_schemas import TranscriptionForm
from app.http_auth import requires
from app.http_errors import invalid_request
from app.http_form import read_form
from app.http_limits import timeout_of
from app.http_sse import respond
from app.prompts import room_for_answer
from app.served_model import ServedModel
from app.transcript_format import TranscriptFormat
from contracts.access import Caller, Scope
from contracts.errors import DeadlineExceeded, EngineFailed, InvalidRequest
from contracts.generation import Sampling
from flora.speech.audio import AudioLimits, duration_s, read_audio
from flora.speech.vocabulary import SpeechVocabulary, language_name

_NEVER = -100.0


def audio_routes(door: Door) -> APIRouter:
    """The routes of `door` that take audio."""
    router = APIRouter(prefix="/v1/audio")
    generator = Annotated[Caller, Depends(requires(door, Scope.GENERATE))]

    @router.post("/transcriptions")
    async def transcribe(request: Request, caller: generator) -> Response:
        """Write down what is said in a clip."""
        with door.clips.take():
            form, content = await _read(request, door.limits.max_audio_bytes)
            model, speech, max_audio_s = await _listening(door, caller, form)
            limits = AudioLimits(door.limits.max_audio_bytes, max_audio_s)
            async with door.clips.compiling:
                pcm = await asyncio.to_thread(read_audio, content, limits)
            del content
        return await _answer(door, request, caller, form, model, speech, pcm)

    return router


async def _read(request: Request, max_file_bytes: int) -> tuple[TranscriptionForm, bytes]:
    fields, content = await read_form(request, max_file_bytes)
    try:
        return TranscriptionForm.model_validate_strings({**fields, "file": ""}), content
    except ValidationError as error:
        raise invalid_request(error) from None


async def _listening(
    door: Door, caller: Caller, form: TranscriptionForm
) -> tuple[ServedModel, SpeechVocabulary, float]:
    """The model, what steers it, and how much of a clip it hears, in seconds."""
    name = door.model(form.model)
    name.ref(caller)
    model = door.served(name)
    max_audio_s = (await model.info()).max_audio_s
    if model.speech is None or not max_audio_s:
        raise InvalidRequest(f"The model '{name.base}' takes no audio.", "model")
    if form.language is not None:
        model.speech.prompt(form.language)
    model.require_room(caller)
    return model, model.speech, max_audio_s


async def _answer(
    door: Door,
    request: Request,
    caller: Caller,
    form: TranscriptionForm,
    model: ServedModel,
    speech: SpeechVocabulary,
    pcm: bytes,
) -> Response:
    loop = asyncio.get_running_loop()
    ends_at_s = loop.time() + timeout_of(request, door.limits.request_timeout_s)
    adapter = door.model(form.model).ref(caller)
    answer_id = f"transcript-{door.new_id()}"
    ask = Ask(answer_id, form.model, adapter, (speech.start,), Sampling(1), caller, audio=pcm)
    language = form.language or await _language(door, model, speech, ask, ends_at_s)
    before = (
        await model.prompts.encode_text(f" {form.prompt}", specials=False) if form.prompt else ()
    )
    max_len = (await model.info()).max_model_len_tokens
    # As Whisper does it: what went before has less than half of the room, of which the end counts
    # most, and what is written half of it. A clip that makes it ramble costs no more.
    prompt = speech.prompt(language, before[-(max_len // 2 - 1) :])
    sampling = Sampling(
        min(room_for_answer(len(prompt), None, max_len), max_len // 2),
        temperature=form.temperature,
        logit_bias=tuple((token_id, _NEVER) for token_id in speech.suppressed),
        min_tokens=1,
    )
    ask = replace(ask, prompt_token_ids=prompt, sampling=sampling)
    answer = Answer(await door.open(model, [ask]), 1, ask.num_input_tokens)
    wire = TranscriptFormat(
        form.response_format, language=language_name(language), duration_s=duration_s(pcm)
    )
    left_s = max(ends_at_s - loop.time(), 0.0)
    response = await respond(answer, wire, request.receive, stream=form.stream, timeout_s=left_s)
    if form.response_format == "text" and not form.stream:
        response.headers["content-type"] = "text/plain; charset=utf-8"
    return response


async def _language(
    door: Door, model: ServedModel, speech: SpeechVocabulary, ask: Ask, ends_at_s: float
) -> str:
    """Which language the model hears: the one token that it writes first."""
    sampling = Sampling(1, temperature=0.0, allowed_token_ids=tuple(speech.languages.values()))
    asked = replace(ask, request_id=f"{ask.request_id}-language", sampling=sampling)
    answer = Answer(await door.open(model, [asked]), 1, asked.num_input_tokens)
    try:
        async with asyncio.timeout_at(ends_at_s):
            (choice,) = await answer.collect()
    except TimeoutError:
        raise DeadlineExceeded("The answer took longer than it may.") from None
    finally:
        answer.close()
    language = speech.language_of(choice.token_ids[0]) if choice.token_ids else None
    if language is None:
        raise EngineFailed("The engine named no language.")
    return language
