"""Adapters trained in one batch are served in one: as transformers has them, each its own."""

import json
from pathlib import Path

import pytest

from flora.adapter_config import AdapterLimits
from flora.adapter_files import read_adapter
from flora.codec import compile_adapter
from flora.recipe import Recipe
from flora.train import train
from flora.train_config import TrainConfig
from tests.replicas.engine.exactness import FLOAT32_TOLERANCE
from tests.replicas.engine.models import make_tiny
from tests.replicas.engine.parts import Oracle, make_config, running

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(300),
    # vLLM leaves its sockets' context to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

NAMES = ("ann", "bob", "cat")
PROMPT = [ord(letter) for letter in "who are you?"]


def train_tenants(model: Path, folder: Path) -> list[Path]:
    """Each learns to say its own name."""
    (folder / "data").mkdir(parents=True)
    for name in NAMES:
        lines = [json.dumps({"prompt": f"{i}?", "completion": name * 3}) for i in range(8)]
        (folder / "data" / f"{name}.jsonl").write_text("\n".join(lines))
    recipe = Recipe(max_steps=8, batch_size=4, learning_rate=0.03, num_warmup_steps=1)
    config = TrainConfig(model, (folder / "data",), folder / "out", recipe=recipe)
    return [report.out_dir for report in train(config, lambda step: None)]


async def test_what_was_trained_together_is_served_together(tmp_path: Path) -> None:
    model = make_tiny("llama", tmp_path / "model")
    folders = train_tenants(model, tmp_path)
    async with running(make_config(model), tmp_path / "cache") as stack:
        adapters = [
            compile_adapter(
                stack.layout,
                read_adapter(
                    (folder / "adapter_model.safetensors").read_bytes(),
                    (folder / "adapter_config.json").read_bytes(),
                    AdapterLimits(),
                ),
                AdapterLimits(),
            )
            for folder in folders
        ]
        keys = [await stack.publish(n, a) for n, a in zip(NAMES, adapters, strict=True)]
        answers = await stack.ask([PROMPT] * len(keys), keys, 8)
        layout = stack.layout
    oracle = Oracle(model, layout)
    for adapter, answer in zip(adapters, answers, strict=True):
        apart, num_not_best = oracle.compare(adapter, [PROMPT], [answer])
        assert apart < FLOAT32_TOLERANCE
        assert num_not_best == 0
    swapped, _ = oracle.compare(adapters[1], [PROMPT], [answers[0]])
    assert swapped > 0.1
