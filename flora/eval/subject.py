"""What is judged, wherever it runs: something that answers and that scores text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from flora.eval.passages import Passage, Score


@dataclass(frozen=True, slots=True)
class Drawing:
    """How answers are drawn. `chat`: a prompt is a user's message, else text to be continued."""

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    num_samples: int = 1
    stop: tuple[str, ...] = ()
    chat: bool = False
    seed: int = 0


class Subject(Protocol):
    """A model with or without an adapter."""

    def answer(self, prompts: Sequence[str], drawing: Drawing) -> list[list[str]]:
        """`num_samples` answers to each prompt, which may go on behind a stop text."""

    def score(self, passages: Sequence[Passage]) -> list[Score]:
        """The probability of each passage, tokens of context and text taken apart.

        Where nothing stands before a text, its first token is not judged.
        """
