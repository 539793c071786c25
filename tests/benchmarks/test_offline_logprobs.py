"""A server that says what transformers says is not off; one with another adapter is."""

from pathlib import Path

import pytest
import torch

from benchmarks.intent_client import Reply
from benchmarks.offline_logprobs import OfflineLogprobs
from flora.base_model import fingerprint
from flora.stacked_adapters import StackedAdapters
from flora.train import write_folder
from tests.flora.models import make_model, make_model_dir

PROMPT, SAID = (5, 6, 7, 8), (9, 10, 11)


def test_the_difference_is_that_of_the_adapter(tmp_path: Path) -> None:
    model_dir = make_model_dir(tmp_path / "model")
    model = make_model()
    stack = StackedAdapters(model, 2, 1)
    generator = torch.Generator().manual_seed(0)
    replies = []
    for k in (0, 1):
        with torch.no_grad():
            for parameter in stack.parameters.values():
                parameter[k].normal_(0, 0.2, generator=generator)
            stack.select([k])
            logits = model(torch.tensor([PROMPT + SAID])).logits[0, len(PROMPT) - 1 : -1]
        said = logits.log_softmax(-1).gather(1, torch.tensor(SAID)[:, None])[:, 0].tolist()
        replies.append(Reply("", PROMPT, SAID, tuple(said)))
        files = stack.to_files(k, "tiny", fingerprint(model_dir))
        write_folder(files, "float32", tmp_path / f"a{k}")
    offline = OfflineLogprobs(model_dir)
    assert offline.max_diff(tmp_path / "a0", replies[:1]) < 1e-4
    assert offline.max_diff(tmp_path / "a1", replies[1:]) < 1e-4
    assert offline.max_diff(tmp_path / "a0", replies) == pytest.approx(
        offline.max_diff(tmp_path / "a0", replies[1:])
    )
    assert offline.max_diff(tmp_path / "a0", replies) > 0.1
