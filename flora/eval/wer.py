"""Word error rate of transcripts. Knows no audio and no model."""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from contracts.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class WordErrors:
    """The least edits that make a reference of a hypothesis, and the reference's length."""

    num_edits: int
    num_words: int


def normalise(text: str) -> str:
    """What transcripts are compared by: NFKC, case folded, words parted by one space.

    An apostrophe within a word vanishes ("it's" is "its"), all other punctuation and symbols part
    words. Cyrillic io counts as ie. Numbers stay as they are written.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    folded = folded.replace("\N{CYRILLIC SMALL LETTER IO}", "\N{CYRILLIC SMALL LETTER IE}")
    for apostrophe in ("'", "\N{RIGHT SINGLE QUOTATION MARK}"):
        folded = folded.replace(apostrophe, "")
    kept = (c if unicodedata.category(c)[0] in "LMN" else " " for c in folded)
    return " ".join("".join(kept).split())


def count_errors(reference: str, hypothesis: str, *, characters: bool = False) -> WordErrors:
    """Compares normalised words, or `characters` for languages that do not part words."""
    units = [normalise(text) for text in (reference, hypothesis)]
    split = [list(text.replace(" ", "")) if characters else text.split() for text in units]
    return WordErrors(edit_distance(*split), len(split[0]))


def word_error_rate(pairs: Iterable[tuple[str, str]], *, characters: bool = False) -> float:
    """All edits over all words of (reference, hypothesis) pairs; above one where more was said.

    Raises InvalidRequest where no reference has a word.
    """
    errors = [count_errors(r, h, characters=characters) for r, h in pairs]
    num_words = sum(error.num_words for error in errors)
    if not num_words:
        raise InvalidRequest("no reference has a word")
    return sum(error.num_edits for error in errors) / num_words


def edit_distance(first: Sequence[str], second: Sequence[str]) -> int:
    """Levenshtein's distance: insertions, deletions and substitutions at one each."""
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        corner, row[0] = row[0], i
        for j, b in enumerate(second, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (a != b))
    return row[-1]
