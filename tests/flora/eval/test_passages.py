import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import InvalidRequest
from flora.eval.passages import Passage, Score, perplexity, pieces, read_passages


@settings(deadline=None)
@given(st.text("ab \n", max_size=60), st.integers(2, 12))
def test_pieces_are_short_and_lose_no_word(text: str, most: int) -> None:
    found = list(pieces(text, most))
    assert all(0 < len(piece) <= most for piece in found)
    assert "".join("".join(found).split()) == "".join(text.split())


def test_texts_are_cut_before_white_space() -> None:
    assert list(pieces("one two three", 8)) == ["one two", " three"]


def test_the_three_forms_are_read(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(
        '{"text": "one two"}\n\n{"prompt": "a", "completion": "b"}\n'
        '{"messages": [{"role": "user", "content": "hi"},'
        ' {"role": "assistant", "content": "yes"}]}\n'
    )
    asked = ({"role": "user", "content": "hi"},)
    expected = [Passage("one"), Passage(" two"), Passage("b", "a"), Passage("yes", asked)]
    assert read_passages(path, 4) == expected
    plain = tmp_path / "data.txt"
    plain.write_text('{"text": 1}')
    assert read_passages(plain, 100) == [Passage('{"text": 1}')]


@pytest.mark.parametrize("line", ["[]", "{", '{"prompt": "a"}', '{"messages": []}', "3"])
def test_bad_lines_are_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"text": "fine"}\n' + line)
    with pytest.raises(InvalidRequest, match=r"data\.jsonl:2: needs"):
        read_passages(path, 100)


def test_perplexity_is_over_all_tokens() -> None:
    scores = [Score(math.log(8), 1, 4), Score(0.0, 2, 9)]
    assert perplexity(scores) == pytest.approx(2)
    assert scores[0].bits == pytest.approx(3)
    with pytest.raises(InvalidRequest, match="no passage"):
        perplexity([])
