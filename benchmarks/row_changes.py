"""What rounding an adapter's row does to a model's answers. Knows no engine: plain transformers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from flora.adapter_config import AdapterConfig, AdapterLimits
from flora.adapter_files import AdapterFiles, read_adapter, tensor_name
from flora.codec import compile_adapter, decompile
from flora.layout import AdapterLayout
from flora.linear import materialized
from flora.train_data import Example, read_records, to_example

DTYPES = ("bfloat16", "int8")
RANDOM_KINDS = ("tied", "untied", "rank4")


@dataclass(frozen=True)
class Change:
    """Of every answer token [n]: how far its log-probability moved, and whether the best token did.

    Against the same adapter in float32 rows; everything else is float32 on both sides.
    """

    apart: torch.Tensor
    best_differs: torch.Tensor


class RowChanges:
    """A model in float32 and its layout; adapters are materialised into copies of it."""

    def __init__(self, model: Path, layout: AdapterLayout) -> None:
        self._model: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
        self._tokenizer = AutoTokenizer.from_pretrained(model)
        self._layout = layout

    def examples(self, data: Path, count: int) -> list[Example]:
        """The first conversations of a training file; their answers are what is looked at."""
        records = read_records(data)[:count]
        return [to_example(record, self._tokenizer, 128) for record in records]

    def changes(self, files: AdapterFiles, examples: Sequence[Example]) -> dict[str, Change]:
        """By row dtype, what it changes."""
        exact = self._logprobs(files, "float32", examples)
        targets = torch.cat([_targets(example) for example in examples])
        found = {}
        for dtype in DTYPES:
            rounded = self._logprobs(files, dtype, examples)
            apart = (rounded - exact).gather(1, targets[:, None]).abs().flatten()
            found[dtype] = Change(apart, rounded.argmax(1) != exact.argmax(1))
        return found

    def _logprobs(
        self, files: AdapterFiles, dtype: str, examples: Sequence[Example]
    ) -> torch.Tensor:
        """Before every answer token, of every token: float32 [answer tokens, vocabulary]."""
        layout = replace(self._layout, dtype=dtype)
        row = compile_adapter(layout, files, AdapterLimits()).blob
        model = materialized(self._model, decompile(layout, row))
        parts = []
        with torch.inference_mode():
            for example in examples:
                logits = model(torch.tensor([example.token_ids])).logits[0, :-1]
                parts.append(logits[torch.tensor(example.is_target[1:])].log_softmax(-1))
        return torch.cat(parts)


def demo_files(folder: Path) -> AdapterFiles:
    """A trained adapter from its folder."""
    weights, config = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    return read_adapter(weights.read_bytes(), config.read_bytes(), AdapterLimits())


def random_files(layout: AdapterLayout, kind: str, deviation: float, seed: int) -> AdapterFiles:
    """Normal deviations on every module; "rank4" has further pairs of the same size."""
    rng = np.random.default_rng(seed)
    rank = 4 if kind == "rank4" else 1
    tensors = {}
    for group in layout.groups:
        shared = rng.normal(0, deviation, (rank, group.in_features)).astype(np.float32)
        for member in group.members:
            own = rng.normal(0, deviation, (rank, group.in_features)).astype(np.float32)
            a = rng.normal(0, deviation, (rank, member.out_features)).astype(np.float32)
            tensors[tensor_name(member.name, "B")] = shared if kind == "tied" else own
            tensors[tensor_name(member.name, "A")] = a
    return AdapterFiles(AdapterConfig(rank, "deviation", False), tensors)


def _targets(example: Example) -> torch.Tensor:
    ids = torch.tensor(example.token_ids[1:])
    return ids[torch.tensor(example.is_target[1:])]
