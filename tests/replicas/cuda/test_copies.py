"""Rows that arrive while a GPU computes: nobody reads half of one, and nobody waits."""

from pathlib import Path
from time import perf_counter

import pytest
import torch

from flora.layout import AdapterLayout
from replicas.slab import Slab
from tests.flora.layouts import make_group, make_layout
from tests.replicas.rows import make_numbers, write_row

pytestmark = pytest.mark.cuda

READER = 1


def wide_layout() -> AdapterLayout:
    """Rows of 4 MB."""
    return make_layout(make_group("g", 1 << 20, (1 << 20,)), dtype="bfloat16", max_rank=1)


@pytest.fixture
def rows(tmp_path: Path) -> list[Path]:
    return [write_row(tmp_path / str(seed), wide_layout(), (0,), seed) for seed in range(6)]


def busy(turns: int = 50) -> None:
    """Work of some milliseconds on the current stream."""
    a = torch.ones(4096, 4096, device="cuda", dtype=torch.bfloat16)
    for _ in range(turns):
        a = a @ a


def test_steps_read_what_was_loaded_before_them(rows: list[Path]) -> None:
    slab = Slab(wide_layout(), 2, torch.device("cuda"))
    expected = [torch.from_numpy(make_numbers(slab.layout, (0,), seed)) for seed in range(6)]
    seen = []
    for path in rows * 3:
        busy(5)
        slab.load(1, path)
        slab.before_step(READER, [1])
        seen.append(slab.numbers[1].clone())
    for number, row in enumerate(seen):
        assert torch.equal(row.cpu(), expected[number % 6].bfloat16())


def test_a_load_does_not_wait_for_a_running_step(rows: list[Path]) -> None:
    slab = Slab(wide_layout(), 4, torch.device("cuda"))
    for slot in (1, 2):
        slab.load(slot, rows[slot])
    slab.before_step(READER, [1])
    torch.cuda.synchronize()
    busy()
    marker = torch.cuda.current_stream().record_event()
    started_s = perf_counter()
    slab.load(3, rows[3])
    held_s = perf_counter() - started_s
    slab._writer._thread.submit(int).result()  # type: ignore[attr-defined]
    slab._writer._copies._stream.synchronize()  # type: ignore[attr-defined]
    is_running = not marker.query()
    torch.cuda.synchronize()
    assert is_running, f"the copy waited for the step (the call took {held_s * 1e3:.2f} ms)"


def test_a_slot_in_use_is_overwritten_after_its_step(rows: list[Path]) -> None:
    slab = Slab(wide_layout(), 1, torch.device("cuda"))
    slab.load(1, rows[0])
    slab.before_step(READER, [1])
    busy()
    read = slab.numbers[1].clone()
    slab.load(1, rows[1])
    slab.before_step(READER, [1])
    again = slab.numbers[1].clone()
    for row, seed in ((read, 0), (again, 1)):
        expected = torch.from_numpy(make_numbers(slab.layout, (0,), seed)).bfloat16()
        assert torch.equal(row.cpu(), expected)
