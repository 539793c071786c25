"""What /v1/audio/transcriptions accepts and answers."""

from typing import Annotated, Any, Literal

from pydantic import Field

from app.http_structure_schemas import Wire
from app.transcript_format import TranscriptKind

MAX_PROMPT_CHARACTERS = 4096


class TranscriptionForm(Wire):
    """The multipart form of a transcription, as the OpenAI API has it; all but `file` is text.

    `language` is an ISO 639 code; without one the model says which it hears. `prompt` is text that
    went before the clip.
    """

    file: Any = Field(json_schema_extra={"type": "string", "format": "binary"})
    model: Annotated[str, Field(min_length=1)]
    language: Annotated[str, Field(max_length=16)] | None = None
    prompt: Annotated[str, Field(max_length=MAX_PROMPT_CHARACTERS)] | None = None
    response_format: TranscriptKind = "json"
    temperature: Annotated[float, Field(ge=0, le=1)] = 0.0
    stream: bool = False


class DurationUsage(Wire):
    """What a transcription is counted by."""

    type: Literal["duration"]
    seconds: int


class Transcription(Wire):
    """The answer in `json`; in `verbose_json` with `task`, `language` and `duration` (seconds)."""

    text: str
    usage: DurationUsage
    task: Literal["transcribe"] | None = None
    language: str | None = None
    duration: float | None = None


class TranscriptionEvent(Wire):
    """One event of a stream: a piece of the text, or at the end all of it."""

    type: Literal["transcript.text.delta", "transcript.text.done"]
    delta: str | None = None
    text: str | None = None
    usage: DurationUsage | None = None
