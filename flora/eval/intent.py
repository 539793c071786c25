"""Intent classification in words: the prompt, what an answer means, how many are right.

Pure functions over label names; knows no model. One tenant has one set of labels.
"""

import re
from collections import Counter
from collections.abc import Sequence

from contracts.errors import InvalidRequest

_NOT_A_WORD = re.compile(r"[\W_]+")


def spoken(label: str) -> str:
    """A label as the model says it: "card_arrival" is "card arrival"."""
    return " ".join(_NOT_A_WORD.sub(" ", label).casefold().split())


def prompt(utterance: str, labels: Sequence[str] = ()) -> str:
    """The user's message. A model that has not learned the labels needs them in the prompt."""
    choice = f" Answer with one of: {', '.join(map(spoken, labels))}." if labels else ""
    return f"What is the intent of this message?{choice}\n\n{utterance}"


def parse(answer: str, labels: Sequence[str]) -> str | None:
    """The label that an answer names, None if it names none.

    Of the labels that stand as whole words in the first line that has any, the one that begins
    first counts, the longest of those that begin there.
    """
    line = next((line for line in answer.splitlines() if spoken(line)), "")
    said = f" {spoken(line)} "
    found = [(said.find(f" {spoken(label)} "), -len(spoken(label)), label) for label in labels]
    found = [place for place in found if place[0] >= 0]
    return min(found)[2] if found else None


def accuracy(expected: Sequence[str], given: Sequence[str | None]) -> float:
    """The share of answers that name the expected label. Raises InvalidRequest on no answers."""
    if not expected or len(expected) != len(given):
        raise InvalidRequest(f"{len(given)} answers to {len(expected)} messages")
    return sum(a == b for a, b in zip(expected, given, strict=True)) / len(expected)


def confusion(
    expected: Sequence[str], given: Sequence[str | None]
) -> Counter[tuple[str, str | None]]:
    """How often each (expected, given) pair of different labels occurs."""
    pairs = zip(expected, given, strict=True)
    return Counter((right, said) for right, said in pairs if right != said)
