"""The row layout of a Llama-style model from its config alone, as vLLM fuses its products."""

import json
from pathlib import Path

from flora.base_model import fingerprint
from flora.layout import AdapterLayout, Group, Member


def llama_layout(model: Path, dtype: str, max_rank: int = 1) -> AdapterLayout:
    """The layout that an engine would report for the model folder."""
    config = json.loads((model / "config.json").read_text())
    groups = [
        group
        for i in range(config["num_hidden_layers"])
        for group in _groups(f"model.layers.{i}", config)
    ]
    return AdapterLayout(fingerprint(model), dtype, max_rank, tuple(groups))


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
