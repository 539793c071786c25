"""Every adapter's examples by its name, held out from its own file or from another."""

from pathlib import Path

import pytest

from contracts.errors import InvalidRequest
from flora.text_data import read_text_data, text_out_dirs
from flora.train_config import TrainConfig
from tests.flora.models import make_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    for name, count in (("ann", 10), ("bob", 4)):
        lines = [f'{{"text": "{name}{i}"}}' for i in range(count)]
        (tmp_path / "data" / f"{name}.jsonl").write_text("\n".join(lines))
    return tmp_path / "data"


def test_each_file_is_split_by_itself(folder: Path) -> None:
    config = TrainConfig(Path(), (folder,), Path("out"), heldout_fraction=0.3)
    data = read_text_data(config, make_tokenizer())
    assert [(d.name, len(d.learned), len(d.heldout)) for d in data] == [
        ("ann", 7, 3),
        ("bob", 3, 1),
    ]
    assert text_out_dirs(config, data) == [Path("out/ann"), Path("out/bob")]


def test_one_file_is_named_after_where_it_goes(folder: Path) -> None:
    config = TrainConfig(Path(), (folder / "ann.jsonl",), Path("out"))
    (one,) = data = read_text_data(config, make_tokenizer())
    assert one.name == "out"
    assert text_out_dirs(config, data) == [Path("out")]


def test_held_out_files(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "held").mkdir()
    for name in ("ann", "bob"):
        (tmp_path / "held" / f"{name}.jsonl").write_text(f'{{"text": "held {name}"}}')
    config = TrainConfig(Path(), (folder,), Path("out"), heldout=tmp_path / "held")
    data = read_text_data(config, make_tokenizer())
    assert [(len(d.learned), len(d.heldout)) for d in data] == [(10, 1), (4, 1)]
    told = [make_tokenizer().decode(d.heldout[0].token_ids) for d in data]
    assert told == ["held ann<eos>", "held bob<eos>"]
    (tmp_path / "held/bob.jsonl").unlink()
    with pytest.raises(InvalidRequest, match=r"bob\.jsonl cannot be read"):
        read_text_data(config, make_tokenizer())


def test_prompts_that_fill_the_length_are_no_use(tmp_path: Path) -> None:
    line = '{"prompt": "far too long", "completion": "x"}\n'
    (tmp_path / "long.jsonl").write_text(line * 3)
    config = TrainConfig(Path(), (tmp_path / "long.jsonl",), Path("out"), max_length_tokens=8)
    with pytest.raises(InvalidRequest, match="0 of 3 records"):
        read_text_data(config, make_tokenizer())
