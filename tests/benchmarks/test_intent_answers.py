"""Who is asked what by which adapter, and what counts as right."""

from dataclasses import replace

from benchmarks.intent_answers import accuracy, ask, mixed, unmixed
from benchmarks.intent_client import Question, Reply
from benchmarks.intents import IntentTenant, Utterance

ASKED = (Utterance("new pin", "pin change"), Utterance("how much", "balance"))
BANK = IntentTenant("banking", ("pin change", "balance"), (), (), ASKED)
TALK = replace(BANK, name="talk")


def test_each_kind_has_its_adapter() -> None:
    asked = {kind: ask(kind, "m", BANK, TALK, "p") for kind in ("own", "next", "base")}
    assert [q.model for q in asked.values()] == ["m:banking", "m:talk", "m"]
    choice = ask("base_choice", "m", BANK, TALK, "p")
    assert choice == Question("m", "p", (" pin change", " balance"))


def test_neighbours_in_a_batch_are_of_different_tenants() -> None:
    questions = [[Question(name, str(i)) for i in range(3)] for name in "abc"]
    together = mixed(questions)
    assert "".join(q.model for q in together) == "abcabcabc"
    replies = [Reply(f"{q.model}{q.prompt}", (), (), ()) for q in together]
    assert [[r.text for r in told] for told in unmixed(replies, 3)] == [
        [f"{name}{i}" for i in range(3)] for name in "abc"
    ]


def test_right_is_right_to_the_letter() -> None:
    told = [Reply(text, (), (), ()) for text in (" pin change", " balances")]
    assert accuracy(BANK, told) == 0.5
