"""Reads a loaded vLLM model: its linear layers, what Hugging Face calls them, and which part of
each this device has.
"""

from copy import deepcopy
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSpeechSeq2Seq
from transformers.pytorch_utils import Conv1D
from vllm.config import VllmConfig
from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase
from vllm.model_executor.layers.linear import (
    ColumnParallelLinear,
    LinearBase,
    MergedColumnParallelLinear,
    QKVParallelLinear,
    ReplicatedLinear,
    RowParallelLinear,
)

from contracts.errors import ServiceError
from flora.layout import AdapterLayout, Group, Member
from flora.shard import GroupShard, Shard, Span, own_span

# Layers whose parts are equal ones, in the order of the devices.
_EVENLY_SPLIT = (
    ColumnParallelLinear,
    MergedColumnParallelLinear,
    QKVParallelLinear,
    ReplicatedLinear,
    RowParallelLinear,
)


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


def read_shard(
    model: torch.nn.Module, config: VllmConfig, *, fingerprint: str, dtype: str, max_rank: int
) -> Shard:
    """The row layout of a loaded model, a group a linear layer, members by Hugging Face name; and
    the part of it that this device computes with. Raises ServiceError when that can't be told.
    """
    names = _hugging_face_names(model, config)
    packed: dict[str, list[str]] = getattr(model, "packed_modules_mapping", {})
    parts = [_part(name, layer, packed, names) for name, layer in target_layers(model).items()]
    layout = AdapterLayout(fingerprint, dtype, max_rank, tuple(group for group, _ in parts))
    return Shard(layout, tuple(shard for _, shard in parts))


def _part(
    name: str, layer: LinearBase, packed: dict[str, list[str]], names: dict[str, str]
) -> tuple[Group, GroupShard]:
    """A layer as a group of the whole model, and this device's part of it."""
    parent, _, leaf = name.rpartition(".")
    sizes, outputs = _outputs(name, layer)
    parts = packed.get(leaf, [])
    if len(parts) != len(sizes):  # one module in the checkpoint too, such as GPT-2's c_attn
        parts, sizes, outputs = [leaf], [sum(sizes)], [tuple(s for spans in outputs for s in spans)]
    own = [f"{parent}.{part}" if parent else part for part in parts]
    members = tuple(
        Member(names.get(part, part), size) for part, size in zip(own, sizes, strict=True)
    )
    in_features = int(layer.input_size)
    own_in_features = int(getattr(layer, "input_size_per_partition", in_features))
    inputs = own_span(in_features, own_in_features, layer.tp_rank, layer.tp_size)
    return Group(name, in_features, members), GroupShard(inputs, tuple(outputs))


def _outputs(name: str, layer: LinearBase) -> tuple[list[int], list[tuple[Span, ...]]]:
    """The sizes of a layer's stacked outputs over all devices, and this device's span of each."""
    own_sizes = [int(size) for size in layer.output_partition_sizes]
    sizes = own_sizes if layer.tp_size == 1 else _whole_sizes(name, layer)
    spans: list[tuple[Span, ...]] = []
    for size, own_size in zip(sizes, own_sizes, strict=True):
        span = own_span(size, own_size, layer.tp_rank, layer.tp_size)
        spans.append((Span(sum(sizes[: len(spans)]) + span.first, span.count),))
    return sizes, spans


def _whole_sizes(name: str, layer: LinearBase) -> list[int]:
    if type(layer) not in _EVENLY_SPLIT:
        raise ServiceError(
            f"{name} is a {type(layer).__name__}, of which nobody knows here how devices share it:"
            " set tensor_parallel_size to 1"
        )
    if isinstance(layer, QKVParallelLinear):
        # Its own sizes count a head of keys once for each device that has it.
        num_keys = layer.total_num_kv_heads
        heads = (layer.total_num_heads, layer.head_size), (num_keys, layer.head_size)
        return [count * size for count, size in (*heads, (num_keys, layer.v_head_size))]
    return [int(size) for size in getattr(layer, "output_sizes", [layer.output_size])]


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
        listens = getattr(plain, "is_encoder_decoder", False)
        family: Any = AutoModelForSpeechSeq2Seq if listens else AutoModelForCausalLM
        reference = family.from_config(plain)
    linear = (torch.nn.Linear, Conv1D)
    return [name for name, module in reference.named_modules() if isinstance(module, linear)]
