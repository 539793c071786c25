from pathlib import Path

import pytest
import torch
from torch.nn import functional

from contracts.errors import InvalidRequest
from flora.eval.local_model import LocalModel
from flora.eval.passages import Passage
from flora.eval.subject import Drawing
from flora.eval.tasks import bits_per_byte
from tests.flora.eval.peft_folders import lora_config, save_random
from tests.flora.models import make_model, make_model_dir, make_tokenizer


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_dir(tmp_path_factory.mktemp("model"))


def slow_nats(text: str, num_given: int) -> float:
    """Token by token."""
    model, ids = make_model(), make_tokenizer()(text)["input_ids"]
    nats = 0.0
    with torch.no_grad():
        for i in range(num_given, len(ids)):
            logits = model(input_ids=torch.tensor([ids[:i]])).logits[0, -1]
            nats -= functional.log_softmax(logits, -1)[ids[i]].item()
    return nats


def test_scores_equal_those_token_by_token(model_dir: Path) -> None:
    asked = ({"role": "user", "content": "one"},)
    passages = [Passage("two three"), Passage("two", "one "), Passage("two", asked)]
    alone, behind, answered = LocalModel(model_dir).score(passages)
    assert alone.nats == pytest.approx(slow_nats("two three", 1), rel=1e-4)
    assert (alone.num_tokens, alone.num_bytes) == (8, 8)  # the first token stands for no bits
    assert behind.nats == pytest.approx(slow_nats("one two", 4), rel=1e-4)
    assert (behind.num_tokens, behind.num_bytes) == (3, 3)
    prompt = "<user>one\n<assistant>"
    assert answered.nats == pytest.approx(slow_nats(prompt + "two", len(prompt)), rel=1e-4)


def test_bits_per_byte_of_one_token_a_byte(model_dir: Path) -> None:
    found = bits_per_byte(LocalModel(model_dir), [Passage("abc", "x"), Passage("de", "x")], seed=0)
    nats = found.estimates["nats_per_token"].value
    assert found.estimates["bits_per_byte"].value == pytest.approx(nats / 0.693147, rel=1e-5)
    assert found.details["num_tokens"] == found.details["num_bytes"] == 5


def test_greedy_answers_do_not_depend_on_the_batch(model_dir: Path) -> None:
    prompts = ["a", "a longer prompt", "x"]
    together = LocalModel(model_dir).answer(prompts, Drawing(6))
    alone = LocalModel(model_dir, batch_size=1).answer(prompts, Drawing(6))
    assert together == alone
    assert [len(answers) for answers in together] == [1, 1, 1]


def test_samples_follow_the_seed(model_dir: Path) -> None:
    def draw(seed: int) -> list[list[str]]:
        drawing = Drawing(8, temperature=1.0, num_samples=3, chat=True, seed=seed)
        return LocalModel(model_dir, batch_size=2).answer(["a", "b"], drawing)

    assert draw(1) == draw(1) != draw(2)
    assert [len(answers) for answers in draw(1)] == [3, 3]


def test_an_adapter_changes_the_scores(model_dir: Path, tmp_path: Path) -> None:
    save_random(lora_config(), tmp_path / "lora")
    passage = [Passage("some text")]
    plain = LocalModel(model_dir).score(passage)[0]
    adapted = LocalModel(model_dir, tmp_path / "lora").score(passage)[0]
    assert abs(plain.nats - adapted.nats) > 0.1


def test_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="holds no model"):
        LocalModel(tmp_path)
