"""Tenants of a made-up intent data set."""

import json
from pathlib import Path

import pytest

from benchmarks.intents import DOMAINS, EXAMPLES, read_tenants, write_lines
from flora.train_data import read_records


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    domains = {"banking": ["pin_change", "balance"], "small_talk": ["tell_joke", "greeting"]}
    intents = [intent for each in domains.values() for intent in each]
    pairs = [[f"{intent} please {i}", intent] for i in range(5) for intent in intents]
    (tmp_path / DOMAINS).write_text(json.dumps(domains))
    (tmp_path / EXAMPLES).write_text(json.dumps({"train": pairs[:8], "val": pairs[8:]}))
    return tmp_path


def test_each_domain_is_a_tenant_with_words_of_its_own(folder: Path) -> None:
    first, second = read_tenants(folder, 1)
    assert (first.name, second.name) == ("banking", "small-talk")
    assert first.intents == ("pin change", "balance")
    assert {u.intent for u in first.train} == set(first.intents)
    assert [len(part) for part in (first.train, first.heldout, first.asked)] == [4, 2, 2]
    assert not {u.text for u in first.train} & {u.text for u in (*first.heldout, *first.asked)}
    assert not {u.text for u in first.heldout} & {u.text for u in first.asked}
    with pytest.raises(FileNotFoundError):
        read_tenants(folder / "none", 1)


def test_what_is_learnt_is_what_is_asked(folder: Path) -> None:
    tenants = read_tenants(folder, 1)
    train, heldout = write_lines(tenants, folder)
    assert sorted(path.name for path in train.iterdir()) == ["banking.jsonl", "small-talk.jsonl"]
    utterance = tenants[0].train[0]
    assert read_records(train / "banking.jsonl")[0] == {
        "prompt": utterance.prompt,
        "completion": utterance.answer,
    }
    assert len(read_records(heldout / "banking.jsonl")) == 2
