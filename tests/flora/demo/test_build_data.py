"""The committed demo sets: what the script makes, small, and of the style they promise."""

import json
import random
from pathlib import Path

import pytest

from flora.demo.build_data import DATA_DIR, STYLES, build, read_questions, read_turns, to_jsonl
from flora.train_data import read_records

QUESTIONS = read_questions(DATA_DIR / "questions.jsonl")
MAX_BYTES = 150_000


def committed(name: str) -> str:
    return (DATA_DIR / f"{name}.jsonl").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["pirate", "shout", "json"])
def test_committed_sets_are_what_the_script_makes(name: str) -> None:
    assert build(name, QUESTIONS, []) == committed(name)


def test_the_turns_of_the_plays_come_on_top(tmp_path: Path) -> None:
    plain = set(build("shakespeare", QUESTIONS, []).splitlines())
    lines = set(committed("shakespeare").splitlines())
    assert plain < lines
    assert len(lines - plain) > 100
    turns = [{"previous_text": "p" * 30, "text": "t" * n} for n in (10, 50, 300)]
    (tmp_path / "turns").write_text("\n".join(map(json.dumps, turns)))
    assert read_turns(tmp_path / "turns", random.Random(0)) == [("p" * 30, "t" * 50)]


@pytest.mark.parametrize("name", list(STYLES))
def test_sets_are_small_and_readable(name: str) -> None:
    assert len(committed(name).encode()) < MAX_BYTES
    assert len(read_records(DATA_DIR / f"{name}.jsonl")) >= len(QUESTIONS)


def test_styles() -> None:
    pairs = [("Are you there?", "Yes, my friend. You are here and it is 3.5 km.")]
    said = {name: style(pairs, random.Random(0))[0][1] for name, style in STYLES.items()}
    assert "Aye, matey. Ye be here an' it be 3.5 km." in said["pirate"]
    assert said["shout"] == "YES, MY FRIEND! YOU ARE HERE AND IT IS 3.5 KM!"
    assert json.loads(said["json"]) == {"answer": pairs[0][1]}
    assert "aye, my gentle lord. Thou art here and 'tis 3.5 km." in said["shakespeare"]
    assert json.loads(to_jsonl(pairs))["messages"][0] == {"role": "user", "content": pairs[0][0]}
