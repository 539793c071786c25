import json
from pathlib import Path

import pytest
import torch

from contracts.errors import InvalidRequest
from flora.convert.dialogues import Dialogue, answered, collate, own_prompts, read_prompts
from tests.flora.models import make_model, make_tokenizer


def write(path: Path, *records: object) -> Path:
    path.write_text("\n".join(map(json.dumps, records)))
    return path


def test_prompts_are_read_without_their_answers(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]
    records = {"messages": messages}, {"prompt": "on", "completion": "and on"}, {"text": "all"}
    tokenizer = make_tokenizer()
    found = read_prompts(write(tmp_path / "p.jsonl", *records), tokenizer, 100)
    assert [tokenizer.decode(ids) for ids in found] == ["<user>hi\n<assistant>", "on", "all"]
    assert [len(ids) for ids in read_prompts(tmp_path / "p.jsonl", tokenizer, 2)] == [2, 2, 2]


@pytest.mark.parametrize("record", [{}, [], {"messages": []}, {"messages": [{"role": "system"}]}])
def test_bad_prompts_are_refused(tmp_path: Path, record: object) -> None:
    with pytest.raises(InvalidRequest, match='each line needs "messages"'):
        read_prompts(write(tmp_path / "p.jsonl", record), make_tokenizer(), 10)


def test_a_model_makes_up_prompts_within_its_template() -> None:
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    prompts = own_prompts(make_model(), tokenizer, 5, 6, batch_size=3)
    texts = [tokenizer.decode(ids) for ids in prompts]
    assert len(texts) == 5
    assert all(t.startswith("<user>") and t.endswith("\n<assistant>") for t in texts)
    assert len(set(texts)) > 1
    tokenizer.chat_template = None
    plain = own_prompts(make_model(), tokenizer, 2, 6, batch_size=2)
    assert all(ids[0] == tokenizer.eos_token_id and 1 < len(ids) <= 7 for ids in plain)


def test_answers_come_in_the_order_of_their_prompts() -> None:
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    prompts = [[7] * n for n in (5, 1, 3)]
    found = answered(make_model(), tokenizer, prompts, 4, batch_size=2)
    assert [d.num_given for d in found] == [5, 1, 3]
    assert all(list(d.token_ids[: d.num_given]) == p for d, p in zip(found, prompts, strict=True))
    assert all(1 <= len(d.token_ids) - d.num_given <= 4 for d in found)


def test_a_batch_marks_what_predicts_an_answer() -> None:
    batch = collate([Dialogue((1, 2, 3, 4), 2), Dialogue((5, 6), 1)])
    assert batch.input_ids.tolist() == [[1, 2, 3, 4], [5, 6, 0, 0]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch.is_compared.long().tolist() == [[0, 1, 1, 0], [1, 0, 0, 0]]
