from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import AdapterCorrupt
from flora.lora_row import Factors, decode_lora
from replicas.lora_slab import LoraSlab
from tests.replicas.loras import filled_lora_slab, small_lora_layout, write_lora
from tests.replicas.rows import CPU, small_layout, write_row

LAYOUT = small_lora_layout()


def held(slab: LoraSlab, slot: int) -> list[Factors]:
    """All of each module's factors in a slot, at the highest rank."""
    return [
        (a[slot, 0].float().numpy(), b[slot, 0].float().numpy())
        for group in zip(slab.a, slab.b, strict=True)
        for a, b in zip(*group, strict=True)
    ]


def assert_holds(slab: LoraSlab, slot: int, blob: bytes) -> None:
    for found, stored in zip(held(slab, slot), decode_lora(slab.layout, blob), strict=True):
        rank = 0 if stored is None else len(stored[0])
        assert not found[0][rank:].any()
        assert not found[1][:, rank:].any()
        if stored is not None:
            assert (found[0][:rank] == stored[0]).all()
            assert (found[1][:, :rank] == stored[1]).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_a_slot_holds_what_the_file_holds(tmp_path: Path, dtype: str) -> None:
    slab = LoraSlab(small_lora_layout(dtype), 2, CPU)
    path = write_lora(tmp_path / "row", slab.layout, (4, 0, 1, 2))
    slab.load(2, path)
    assert_holds(slab, 2, path.read_bytes())
    assert list(slab.ranks[2]) == [4, 0, 1, 2]
    assert not any(side.any() for slot in (0, 1) for pair in held(slab, slot) for side in pair)


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 4), min_size=2, max_size=4))
def test_one_over_another_leaves_nothing_behind(
    tmp_path_factory: pytest.TempPathFactory, loras: list[tuple[int, ...]]
) -> None:
    slab = LoraSlab(LAYOUT, 1, CPU)
    for seed, ranks in enumerate(loras):
        path = write_lora(tmp_path_factory.getbasetemp() / "lora", LAYOUT, ranks, seed)
        slab.load(1, path)
        assert_holds(slab, 1, path.read_bytes())
    assert not any(side.any() for pair in held(slab, 0) for side in pair)


def test_a_poisoned_slot_is_clean_again_when_it_is_filled(tmp_path: Path) -> None:
    slab = filled_lora_slab(tmp_path, LAYOUT, [(1, 1, 1, 1)])
    slab.poison(1)
    assert all(torch.from_numpy(side).isnan().all() for pair in held(slab, 1) for side in pair)
    path = write_lora(tmp_path / "next", LAYOUT, (0, 2, 0, 1))
    slab.load(1, path)
    assert_holds(slab, 1, path.read_bytes())


@pytest.mark.parametrize("kind", ["empty", "short", "other rank", "fLoRA", "absent"])
def test_a_bad_file_leaves_the_identity(tmp_path: Path, kind: str) -> None:
    slab = filled_lora_slab(tmp_path, LAYOUT, [(1, 2, 3, 4)])
    path = tmp_path / "bad"
    if kind == "fLoRA":
        write_row(path, small_layout(), (0, 0))
    elif kind == "other rank":
        write_lora(path, small_lora_layout(rank=8), (8, 0, 0, 0))
    elif kind != "absent":
        whole = write_lora(path, LAYOUT, (1, 1, 1, 1)).read_bytes()
        path.write_bytes(whole[:-1] if kind == "short" else b"")
    with pytest.raises(OSError if kind == "absent" else AdapterCorrupt):
        slab.load(1, path)
    assert not slab.ranks[1].any()
    assert not any(side.any() for pair in held(slab, 1) for side in pair)


def test_it_knows_what_memory_it_takes() -> None:
    slab = LoraSlab(LAYOUT, 2, CPU)
    stacks = [stack for group in (*slab.a, *slab.b) for stack in group]
    assert slab.num_bytes == sum(stack.nbytes for stack in stacks)
