"""vLLM's layers as groups and a device's part of them. The layers have sizes and no weights."""

from typing import Any

import pytest
from vllm.model_executor.layers.linear import (
    ColumnParallelLinear,
    LinearBase,
    MergedColumnParallelLinear,
    QKVParallelLinear,
    ReplicatedLinear,
    RowParallelLinear,
)

from contracts.errors import ServiceError
from flora.layout import Group, Member
from flora.shard import GroupShard, Span
from replicas.vllm_layout import _part

PACKED = {"qkv_proj": ["q_proj", "k_proj", "v_proj"], "gate_up_proj": ["gate_proj", "up_proj"]}


def make_layer(kind: type[LinearBase], rank: int, world_size: int, **sizes: Any) -> LinearBase:
    """A layer as vLLM leaves it on device `rank`, as far as its sizes go."""
    layer = object.__new__(kind)
    for name, value in {"tp_rank": rank, "tp_size": world_size, **sizes}.items():
        object.__setattr__(layer, name, value)
    return layer


def part(name: str, layer: LinearBase) -> tuple[Group, GroupShard]:
    return _part(name, layer, PACKED, {"a.k_proj": "model.a.k"})


def qkv(rank: int, world_size: int, kind: type[LinearBase] = QKVParallelLinear) -> LinearBase:
    """Eight heads of 4 numbers, two of them of keys and values."""
    own_keys = max(1, 2 // world_size) * 4
    return make_layer(
        kind,
        rank,
        world_size,
        input_size=16,
        input_size_per_partition=16,
        output_partition_sizes=[32 // world_size, own_keys, own_keys],
        output_sizes=[32, own_keys * world_size, own_keys * world_size],
        total_num_heads=8,
        total_num_kv_heads=2,
        head_size=4,
        v_head_size=4,
    )


@pytest.mark.parametrize(
    ("rank", "world_size", "spans"),
    [
        (0, 1, [(0, 32), (32, 8), (40, 8)]),
        (1, 2, [(16, 16), (36, 4), (44, 4)]),
        (1, 4, [(8, 8), (32, 4), (40, 4)]),  # two devices share a head of keys
        (2, 4, [(16, 8), (36, 4), (44, 4)]),
    ],
)
def test_queries_keys_and_values(rank: int, world_size: int, spans: list[Any]) -> None:
    group, shard = part("a.qkv_proj", qkv(rank, world_size))
    members = (Member("a.q_proj", 32), Member("model.a.k", 8), Member("a.v_proj", 8))
    assert group == Group("a.qkv_proj", 16, members)
    assert shard == GroupShard(Span(0, 16), tuple((Span(*span),) for span in spans))


def test_one_module_of_queries_keys_and_values() -> None:
    group, shard = part("a.c_attn", qkv(1, 2))
    assert group.members == (Member("a.c_attn", 48),)
    assert shard.outputs == ((Span(16, 16), Span(36, 4), Span(44, 4)),)


def test_split_inputs() -> None:
    layer = make_layer(
        RowParallelLinear,
        2,
        3,
        input_size=24,
        input_size_per_partition=8,
        output_size=16,
        output_partition_sizes=[16],
    )
    group, shard = part("a.down", layer)
    assert group == Group("a.down", 24, (Member("a.down", 16),))
    assert shard == GroupShard(Span(16, 8), ((Span(0, 16),),))


def test_split_outputs() -> None:
    merged = make_layer(
        MergedColumnParallelLinear,
        1,
        2,
        input_size=8,
        input_size_per_partition=8,
        output_size=40,
        output_sizes=[20, 20],
        output_partition_sizes=[10, 10],
    )
    group, shard = part("a.gate_up_proj", merged)
    assert group.members == (Member("a.gate_proj", 20), Member("a.up_proj", 20))
    assert shard.outputs == ((Span(10, 10),), (Span(30, 10),))
    column = make_layer(
        ColumnParallelLinear,
        1,
        2,
        input_size=8,
        input_size_per_partition=8,
        output_size=20,
        output_partition_sizes=[10],
    )
    assert part("a.fc", column)[1] == GroupShard(Span(0, 8), ((Span(10, 10),),))


def test_a_layer_that_every_device_has() -> None:
    layer = make_layer(
        ReplicatedLinear, 1, 2, input_size=8, output_size=20, output_partition_sizes=[20]
    )
    group, shard = part("a.router", layer)
    assert shard == GroupShard(Span(0, 8), ((Span(0, 20),),))
    assert shard.of(group) == group


def test_another_kind_of_layer_is_refused_where_it_is_split() -> None:
    class OwnLinear(QKVParallelLinear):
        pass

    with pytest.raises(ServiceError, match=r"^a.qkv_proj is a OwnLinear.*tensor_parallel_size"):
        part("a.qkv_proj", qkv(0, 2, OwnLinear))
    assert part("a.qkv_proj", qkv(0, 1, OwnLinear))[0].out_features == 48
