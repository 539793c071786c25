from collections.abc import Sequence

import pytest

from flora.eval.intent_data import IntentData, Message
from flora.eval.multipl_e import Problem
from flora.eval.passages import Passage, Score
from flora.eval.subject import Drawing
from flora.eval.tasks import intent_accuracy, pass_rates, word_errors
from flora.eval.toolchains import TOOLCHAINS
from flora.eval.watched_process import Run


class Parrot:
    """Answers what it was told to, and keeps what it was asked."""

    def __init__(self, answers: dict[str, list[str]]) -> None:
        self._answers = answers
        self.drawings: list[Drawing] = []

    def answer(self, prompts: Sequence[str], drawing: Drawing) -> list[list[str]]:
        self.drawings.append(drawing)
        return [next(v for k, v in self._answers.items() if k in prompt) for prompt in prompts]

    def score(self, passages: Sequence[Passage]) -> list[Score]:
        raise AssertionError("nothing is scored here")


class PassesOne:
    """Programs with a 1 in them pass."""

    def run(self, source: str, file_name: str, command: str) -> Run:
        return Run("exit", 0 if "1" in source else 1, b"", b"", 0.0)


def test_intents_are_counted() -> None:
    messages = tuple(Message(text, label) for text, label in (("fly", "book"), ("stay", "hotel")))
    data = IntentData(("book", "hotel"), (), messages)
    parrot = Parrot({"fly": ["Book."], "stay": ["I cannot say"]})
    found = intent_accuracy(parrot, data, limit=None, with_labels=False, seed=0)
    assert found.estimates["accuracy"].value == 0.5
    assert found.details["unparsed"] == 1
    assert found.details["confusion"] == [{"expected": "hotel", "given": None, "count": 1}]
    assert parrot.drawings[0].chat
    assert parrot.drawings[0].temperature == 0


def test_word_errors_are_over_all_words() -> None:
    found = word_errors([("a b", "a"), ("c d e f", "c d e f")], characters=False, seed=0)
    assert found.estimates["word_error_rate"].value == pytest.approx(1 / 6)
    assert found.details == {"num_words": 6}
    assert "character_error_rate" in word_errors([("a", "b")], characters=True, seed=0).estimates


def test_every_problem_has_seeds_of_its_own() -> None:
    problems = [Problem("p", "one", "", ("#",)), Problem("q", "two", "", ("#",))]
    parrot = Parrot({"one": ["1", "0", "0 # 1", "1"], "two": ["0"] * 4})
    drawing = Drawing(9, temperature=0.1, top_p=0.95, num_samples=4, seed=5)
    found = pass_rates(parrot, problems, TOOLCHAINS["sh"][0], PassesOne(), drawing)
    assert found.estimates["pass@1"].value == 0.25
    assert found.details["verdicts"] == {"passed": 2, "failed": 6}
    assert found.details["samples_that_passed"] == {"p": 2}
    assert [d.stop for d in parrot.drawings] == [("#",), ("#",)]
    assert len({d.seed for d in parrot.drawings}) == 2
