import json
from pathlib import Path

import pytest
import torch
from peft import IA3Config, LoraConfig

from benchmarks.code_texts import SOURCES, read_code
from benchmarks.method_runs import Journal, Outcome, Run, adapter_config
from flora.peft import FloraConfig


class Bytes:
    """A tokenizer whose tokens are bytes."""

    eos_token_id = 256

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        return {"input_ids": list(text.encode())}

    def decode(self, ids: list[int]) -> str:
        return bytes(ids).decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, source in enumerate(SOURCES["perl"]):
        path = tmp_path / source
        path.parent.mkdir(parents=True)
        rows = [{"prompt": f"# {number}.{i}\n", "solution": f"print {i};\n"} for i in range(40)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_no_program_is_in_two_parts_and_blocks_follow_each_other(folder: Path) -> None:
    texts = read_code(folder, "perl", Bytes(), 32, 4)
    parts = (texts.train, texts.validation, texts.test)
    assert [len(part.ids) for part in parts[1:]] == [4, 4]
    for part in parts:
        assert part.ids.shape[1] == 33
        assert torch.equal(part.ids[1:, 0], part.ids[:-1, -1])
        ids = part.ids[:, 1:].flatten()
        assert part.num_bytes == int((ids != Bytes.eos_token_id).sum())
    programs = [{bytes(row).decode() for row in _programs(part.ids.tolist())} for part in parts]
    assert programs[0]
    assert not programs[0] & programs[1]
    assert not programs[1] & programs[2]
    again = read_code(folder, "perl", Bytes(), 32, 4)
    assert torch.equal(again.train.ids, texts.train.ids)


def _programs(blocks: list[list[int]]) -> list[list[int]]:
    """The whole programs of consecutive blocks."""
    found: list[list[int]] = [[]]
    for token in [token for block in blocks for token in block[1:]]:
        if token == Bytes.eos_token_id:
            found.append([])
        else:
            found[-1].append(token)
    return found[:-1]


def test_a_run_that_is_known_is_known_to_the_next_process(tmp_path: Path) -> None:
    run = Run("perl", "flora1", 8e-3, 0, 60, 4)
    outcome = Outcome(1.25, 1.5, 10, 3.0)
    Journal(tmp_path / "runs.jsonl").put(run, outcome)
    journal = Journal(tmp_path / "runs.jsonl")
    assert journal.get(run) == outcome
    assert journal.get(Run("perl", "flora1", 8e-3, 1, 60, 4)) is None


def test_methods_are_pefts_on_the_same_layers() -> None:
    flora, lora, ia3 = (adapter_config(name) for name in ("flora1-tied", "lora8", "ia3"))
    assert isinstance(flora, FloraConfig)
    assert (flora.r, flora.tie_inputs) == (1, True)
    assert isinstance(lora, LoraConfig)
    assert (lora.r, lora.lora_alpha) == (8, 16)
    assert isinstance(ia3, IA3Config)
    assert set(flora.target_modules or ()) == set(lora.target_modules or ())
    assert set(ia3.target_modules or ()) == set(lora.target_modules or ())
    assert adapter_config("base") is None
