"""Tables of clips: what is read, what is refused, and what is held out."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import InvalidRequest
from flora.speech.audio import AudioLimits
from flora.speech.data import Clip, read_clips, read_utterances, split_clips
from tests.flora.speech.parts import write_table

HEADER = "path\tlanguage\ttranscript\n"


def test_a_table_is_read_below_its_root(tmp_path: Path) -> None:
    table = write_table(tmp_path, ["one", "two"])
    clips = read_clips(table, tmp_path)
    assert clips == [
        Clip(tmp_path / "0.wav", "ru", "one"),
        Clip(tmp_path / "1.wav", "ru", "two"),
    ]
    utterances = read_utterances(clips, AudioLimits())
    assert [each.transcript for each in utterances] == ["one", "two"]
    assert len(utterances[0].pcm) == 2 * 8000


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("path\ttranscript\na.wav\thi\n", "needs the columns"),
        (HEADER + "a.wav\tru\thi\n", "two clips or more"),
        (HEADER + "a.wav\tru\thi\nb.wav\tru\n", "c.tsv:3.*must not be empty"),
        ("\xff", "needs the columns"),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "c.tsv").write_text(text, encoding="utf-8")
    with pytest.raises(InvalidRequest, match=reason):
        read_clips(tmp_path / "c.tsv", tmp_path)
    with pytest.raises(InvalidRequest, match="cannot be read"):
        read_clips(tmp_path / "absent.tsv", tmp_path)


@given(
    st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=30),
    st.floats(0.01, 0.99),
    st.integers(0, 9),
)
def test_no_sentence_is_on_both_sides(words: list[str], share: float, seed: int) -> None:
    clips = [Clip(Path(f"{i}.wav"), "ru", word) for i, word in enumerate(words)]
    if len(set(words)) < 2:
        with pytest.raises(InvalidRequest, match="say the same"):
            split_clips(clips, share, seed)
        return
    learned, heldout = split_clips(clips, share, seed)
    assert learned
    assert heldout
    assert sorted(learned + heldout, key=lambda c: c.path) == sorted(clips, key=lambda c: c.path)
    assert not {c.transcript for c in learned} & {c.transcript for c in heldout}
    assert (learned, heldout) == split_clips(clips, share, seed)
