"""The tokens that steer a Whisper model. Knows no audio, model or server."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contracts.errors import InvalidRequest

_START = "<|startoftranscript|>"
_TASK = "<|transcribe|>"
_PLAIN = "<|notimestamps|>"
_END = "<|endoftext|>"
_PREVIOUS = "<|startofprev|>"
_LANGUAGE = re.compile(r"<\|([a-z]{2,3})\|>")


@dataclass(frozen=True, slots=True)
class SpeechVocabulary:
    """Token ids by their meaning. `suppressed` are never written: signs that nobody says, and the
    tokens that steer. `languages` are ISO 639 codes.
    """

    languages: Mapping[str, int]
    start: int
    task: int
    plain: int
    end: int
    previous: int
    suppressed: tuple[int, ...] = field(default=())

    @classmethod
    def of(cls, tokenizer: Any, suppressed: Sequence[int] = ()) -> "SpeechVocabulary | None":
        """What a tokenizer knows; None where it is no Whisper model's."""
        known: Mapping[str, int] = tokenizer.get_added_vocab()
        names = (_START, _TASK, _PLAIN, _END, _PREVIOUS)
        if not all(name in known for name in names):
            return None
        matches = ((_LANGUAGE.fullmatch(name), token_id) for name, token_id in known.items())
        languages = {match.group(1): token_id for match, token_id in matches if match}
        start, task, plain, end, previous = (known[name] for name in names)
        return cls(languages, start, task, plain, end, previous, tuple(suppressed))

    def prompt(self, language: str, previous: Sequence[int] = ()) -> tuple[int, ...]:
        """What the model is told before it writes; `previous` is text that went before.

        Raises InvalidRequest for a language that it does not know.
        """
        if language not in self.languages:
            known = ", ".join(sorted(self.languages))
            raise InvalidRequest(f"'language' is not one of: {known}", "language")
        before = (self.previous, *previous) if previous else ()
        return (*before, self.start, self.languages[language], self.task, self.plain)

    def language_of(self, token_id: int) -> str | None:
        """The code of a language's token; None for any other."""
        found = (code for code, known in self.languages.items() if known == token_id)
        return next(found, None)


def suppressed_tokens(model: str | Path) -> tuple[int, ...]:
    """`suppress_tokens` of the generation_config.json of a folder or a Hugging Face name; none
    where that says nothing.
    """
    folder = Path(model)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(str(model), allow_patterns=["generation_config.json"]))
    try:
        parts = json.loads((folder / "generation_config.json").read_text())
    except (OSError, ValueError):
        return ()
    return tuple(int(token_id) for token_id in parts.get("suppress_tokens") or ())


def language_name(code: str) -> str:
    """The language in English, in small letters, as OpenAI answers it."""
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    return str(LANGUAGES.get(code, code))
