"""The text of a run: every adapter's examples, learnt and held out."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from contracts.errors import InvalidRequest
from flora.adapter_data import AdapterData, hold_out
from flora.train_config import TrainConfig
from flora.train_data import Example, read_records, to_example
from flora.train_sources import find_sources, is_one


def read_text_data(config: TrainConfig, tokenizer: Any) -> list[AdapterData[Example]]:
    """An adapter for each source of `data`; one that is alone is named after `out_dir`.

    Raises InvalidRequest on data that cannot be used.
    """
    data = []
    for name, source in find_sources(config.data).items():
        if config.heldout is None:
            examples = _read(source, tokenizer, config.max_length_tokens, 2)
            learned, heldout = hold_out(examples, config.heldout_fraction, config.recipe.seed)
        else:
            path = config.heldout / source.name if config.heldout.is_dir() else config.heldout
            learned = _read(source, tokenizer, config.max_length_tokens, 1)
            heldout = _read(path, tokenizer, config.max_length_tokens, 1)
        data.append(AdapterData(name, learned, heldout))
    if is_one(config.data):
        return [replace(data[0], name=config.out_dir.resolve().name)]
    return data


def text_out_dirs(config: TrainConfig, data: Sequence[AdapterData[Example]]) -> list[Path]:
    """Where each adapter goes: to `out_dir` itself if it is alone, else to its name there."""
    if is_one(config.data):
        return [config.out_dir]
    return [config.out_dir / each.name for each in data]


def _read(path: Path, tokenizer: Any, max_length_tokens: int, min_examples: int) -> list[Example]:
    records = read_records(path, min_examples)
    examples = [to_example(record, tokenizer, max_length_tokens) for record in records]
    usable = [example for example in examples if any(example.is_target[1:])]
    if len(usable) < min_examples:
        raise InvalidRequest(
            f"{path.name}: {len(usable)} of {len(records)} records have a target token within"
            f" {max_length_tokens} tokens, {min_examples} are needed",
            "data",
        )
    return usable
