"""The tokens that steer a Whisper model, found in its tokenizer."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from contracts.errors import InvalidRequest
from flora.speech.vocabulary import SpeechVocabulary, language_name, suppressed_tokens
from tests.flora.models import make_tokenizer
from tests.flora.speech.models import (
    PLAIN,
    PREVIOUS,
    RUSSIAN,
    START,
    SUPPRESSED,
    TASK,
    make_whisper_dir,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_whisper_dir(tmp_path_factory.mktemp("whisper"))


def test_it_is_found_in_the_folder(folder: Path) -> None:
    found = SpeechVocabulary.of(AutoTokenizer.from_pretrained(folder), suppressed_tokens(folder))
    assert found is not None
    assert sorted(found.languages) == ["en", "ru"]
    assert found.suppressed == SUPPRESSED
    assert found.prompt("ru") == (START, RUSSIAN, TASK, PLAIN)
    assert found.prompt("ru", [7, 8]) == (PREVIOUS, 7, 8, START, RUSSIAN, TASK, PLAIN)
    assert found.language_of(RUSSIAN) == "ru"
    assert found.language_of(TASK) is None
    with pytest.raises(InvalidRequest, match="one of: en, ru"):
        found.prompt("xx")


def test_a_text_model_has_none(tmp_path: Path) -> None:
    assert SpeechVocabulary.of(make_tokenizer()) is None
    assert suppressed_tokens(tmp_path) == ()


def test_languages_have_names() -> None:
    assert (language_name("ru"), language_name("xx")) == ("russian", "xx")
