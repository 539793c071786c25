"""The row layout of a Llama-style model from its config alone, as vLLM fuses its products."""

import json
from pathlib import Path

from flora.base_model import fingerprint
from flora.layout import AdapterLayout, Group, Member

SHAPES: dict[str, dict[str, int]] = {
    "smollm2-135m": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "num_hidden_layers": 30,
    },
    "llama-3-8b": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "num_hidden_layers": 32,
    },
}
"""Sizes of well-known models: what a benchmark without weights needs of them."""


def shape_layout(shape: str, dtype: str, max_rank: int = 1) -> AdapterLayout:
    """The layout of a model of these sizes; its fingerprint is the shape's name."""
    return _layout(SHAPES[shape], shape, dtype, max_rank)


def llama_layout(model: Path, dtype: str, max_rank: int = 1) -> AdapterLayout:
    """The layout that an engine would report for the model folder."""
    config = json.loads((model / "config.json").read_text())
    return _layout(config, fingerprint(model), dtype, max_rank)


def _layout(config: dict[str, int], name: str, dtype: str, max_rank: int) -> AdapterLayout:
    groups = [
        group
        for i in range(config["num_hidden_layers"])
        for group in _groups(f"model.layers.{i}", config)
    ]
    return AdapterLayout(name, dtype, max_rank, tuple(groups))


def _groups(layer: str, config: dict[str, int]) -> list[Group]:
    hidden, wide = config["hidden_size"], config["intermediate_size"]
    head = config.get("head_dim") or hidden // config["num_attention_heads"]
    queries, keys = head * config["num_attention_heads"], head * config["num_key_value_heads"]
    shapes = (
        ("self_attn.qkv_proj", hidden, (("q", queries), ("k", keys), ("v", keys))),
        ("self_attn.o_proj", queries, (("o", hidden),)),
        ("mlp.gate_up_proj", hidden, (("gate", wide), ("up", wide))),
        ("mlp.down_proj", wide, (("down", hidden),)),
    )
    return [
        Group(
            f"{layer}.{name}",
            size,
            tuple(Member(f"{layer}.{name.split('.')[0]}.{m}_proj", out) for m, out in members),
        )
        for name, size, members in shapes
    ]
