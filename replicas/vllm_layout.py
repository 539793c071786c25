"""Reads a loaded vLLM model: its linear layers, and what Hugging Face calls them."""

from copy import deepcopy
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D
from vllm.config import VllmConfig
from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase
from vllm.model_executor.layers.linear import LinearBase

from flora.layout import AdapterLayout, Group, Member


def target_layers(model: torch.nn.Module) -> dict[str, LinearBase]:
    """Every linear layer by module name, in the model's order; embeddings and the head are none."""
    return {name: m for name, m in model.named_modules() if isinstance(m, LinearBase)}


def cache_layers(model: torch.nn.Module) -> frozenset[str]:
    """The linear layers around attention, whose results may end in the KV cache; all, if unsure."""
    around: set[str] = set()
    for name, module in model.named_modules():
        if isinstance(module, AttentionLayerBase):
            parts = name.split(".")
            around |= {".".join(parts[:length]) for length in range(len(parts) + 1)}
    found = {name for name in target_layers(model) if name.rpartition(".")[0] in around}
    return frozenset(found or target_layers(model))


def read_layout(
    model: torch.nn.Module, config: VllmConfig, *, fingerprint: str, dtype: str, max_rank: int
) -> AdapterLayout:
    """The row layout of a loaded model: a group a linear layer, members by Hugging Face name."""
    names = _hugging_face_names(model, config)
    packed: dict[str, list[str]] = getattr(model, "packed_modules_mapping", {})
    groups = tuple(
        _group(name, layer, packed, names) for name, layer in target_layers(model).items()
    )
    return AdapterLayout(fingerprint, dtype, max_rank, groups)


def _group(
    name: str, layer: LinearBase, packed: dict[str, list[str]], names: dict[str, str]
) -> Group:
    parent, _, leaf = name.rpartition(".")
    sizes = [int(size) for size in layer.output_partition_sizes]
    parts = packed.get(leaf, [])
    if len(parts) != len(sizes):  # one module in the checkpoint too, such as GPT-2's c_attn
        parts, sizes = [leaf], [sum(sizes)]
    own = [f"{parent}.{part}" if parent else part for part in parts]
    members = tuple(
        Member(names.get(part, part), size) for part, size in zip(own, sizes, strict=True)
    )
    return Group(name, int(layer.input_size), members)


def _hugging_face_names(model: torch.nn.Module, config: VllmConfig) -> dict[str, str]:
    """vLLM's module name -> the module name in the transformers model, for every linear module."""
    mapper = getattr(model, "hf_to_vllm_mapper", None)
    rename = None if mapper is None else mapper.get_rename_mapper()
    names: dict[str, str] = {}
    for name in _linear_modules(config.model_config.hf_config):
        names.setdefault(name, name)
        mapped = None if rename is None else rename.map_name(f"{name}.weight")
        if mapped is not None:
            names[mapped.removesuffix(".weight")] = name
    return names


def _linear_modules(hf_config: Any) -> list[str]:
    plain = deepcopy(hf_config)
    plain._attn_implementation = "eager"  # vLLM's Transformers backend puts its own name there
    with torch.device("meta"):
        reference = AutoModelForCausalLM.from_config(plain)
    linear = (torch.nn.Linear, Conv1D)
    return [name for name, module in reference.named_modules() if isinstance(module, linear)]
