import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import InvalidRequest
from flora.eval.intent import accuracy, confusion, parse, prompt, spoken
from flora.eval.intent_data import Message, read_intents

LABELS = ("balance", "bill_balance", "Refund_not_showing_up", "reverted_card_payment?")


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("balance", "balance"),
        ("Bill balance.", "bill_balance"),
        ("The intent is bill_balance, not balance", "bill_balance"),
        ("\n Refund not showing up\nbalance", "Refund_not_showing_up"),
        ("reverted card payment", "reverted_card_payment?"),
        ("balanced", None),
        ("", None),
    ],
)
def test_answers_mean_labels(answer: str, label: str | None) -> None:
    assert parse(answer, LABELS) == label


@settings(deadline=None)
@given(st.sampled_from(LABELS), st.sampled_from(["{}", " {}!", '"{}"', "It is {}"]))
def test_a_label_that_is_said_is_understood(label: str, form: str) -> None:
    assert parse(form.format(spoken(label)), LABELS) == label


def test_the_prompt_lists_labels_only_where_asked() -> None:
    assert "bill balance, refund not showing up" in prompt("hello", LABELS)
    assert "balance" not in prompt("hello")


def test_accuracy_and_confusion_count() -> None:
    expected, given_ = ["a", "a", "b", "b"], ["a", "b", "b", None]
    assert accuracy(expected, given_) == 0.5
    assert confusion(expected, given_) == Counter({("a", "b"): 1, ("b", None): 1})
    with pytest.raises(InvalidRequest, match="0 answers to 0"):
        accuracy([], [])


def test_both_sets_are_read(tmp_path: Path) -> None:
    (tmp_path / "clinc150_domains.json").write_text(json.dumps({"travel": ["book"], "home": ["x"]}))
    splits = {"train": [["fly me", "book"], ["lights", "x"]], "val": [["a trip", "book"]]}
    (tmp_path / "clinc150_small_train_val.json").write_text(json.dumps(splits))
    (tmp_path / "banking77_train.csv").write_text('text,category\n"a, b",lost\nhi,found\n')
    (tmp_path / "banking77_test_even.csv").write_text("text,category\nwhere,lost\n")
    travel = read_intents(tmp_path, "travel")
    assert travel.learned == (Message("fly me", "book"),)
    assert travel.heldout == (Message("a trip", "book"),)
    banking = read_intents(tmp_path, "banking77")
    assert banking.labels == ("found", "lost")
    assert banking.learned[0] == Message("a, b", "lost")
    with pytest.raises(InvalidRequest, match="no intents 'cars'; there are: banking77, travel"):
        read_intents(tmp_path, "cars")
    with pytest.raises(InvalidRequest, match="say with --data"):
        read_intents(tmp_path / "absent", "banking77")
