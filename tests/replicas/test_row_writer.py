import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from contracts.errors import AdapterCorrupt
from flora.layout import AdapterLayout
from replicas.row_writer import Fill, HostWriter, RowWriter, StagedWriter
from replicas.slab import Slab
from tests.flora.layouts import layouts
from tests.replicas.queues import FakeCopies
from tests.replicas.rows import CPU, row_pairs, small_layout, write_row

WIDTH = 64


def filling(value: int, count: int = WIDTH) -> Fill:
    def fill(target: NDArray[np.uint8]) -> int:
        target[:count] = value
        return count

    return fill


def failing(error: Exception) -> Fill:
    def fill(target: NDArray[np.uint8]) -> int:
        raise error

    return fill


def make_rows() -> torch.Tensor:
    return torch.zeros((4, WIDTH), dtype=torch.int8)


def settle(writer: StagedWriter, copies: FakeCopies) -> None:
    """Every write is in its slot."""
    writer.before_step(0, range(1, 4))
    copies.copying.run()
    copies.computing.run()


@pytest.mark.parametrize("is_staged", [False, True])
def test_slots_hold_what_was_written_last(is_staged: bool) -> None:
    rows, copies = make_rows(), FakeCopies()
    staged = StagedWriter(rows, copies, num_buffers=2)
    writer: RowWriter = staged if is_staged else HostWriter(rows)
    for slot, value in ((1, 5), (2, 6), (1, 7), (3, 8)):
        writer.write(slot, filling(value))
    writer.write(2, filling(9, count=8))
    writer.set_bytes(3, 0xFF)
    settle(staged, copies)
    assert (rows[0] == 0).all()
    assert (rows[1] == 7).all()
    assert rows[2].tolist() == [9] * 8 + [6] * (WIDTH - 8)
    assert (rows[3] == -1).all()


def test_a_write_holds_nobody_while_its_copy_waits() -> None:
    rows, copies = make_rows(), FakeCopies()
    writer = StagedWriter(rows, copies)
    writer.before_step(0, [1])
    writer.write(1, filling(5))  # after a step that has not run
    writer.before_step(0, [2])
    writer._thread.submit(int).result()  # all that was started is queued
    copies.copying.run()
    assert (rows[1] == 0).all()
    copies.computing.run()
    copies.copying.run()
    assert (rows[1] == 5).all()


def test_a_buffer_is_used_again_only_when_its_copy_is_done() -> None:
    rows, copies = make_rows(), FakeCopies()
    writer = StagedWriter(rows, copies, num_buffers=1)
    for slot in (1, 2, 3):
        writer.write(slot, filling(slot))
    settle(writer, copies)
    assert rows[:, 0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("error", [AdapterCorrupt("ended early"), OSError("gone")])
def test_what_cannot_be_read_after_all_is_not_a_number(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    rows, copies = make_rows(), FakeCopies()
    writer = StagedWriter(rows, copies, num_buffers=1)
    with caplog.at_level(logging.ERROR):
        writer.write(1, failing(error))
        writer.write(2, filling(5))
        settle(writer, copies)
    assert (rows[1] == -1).all()
    assert (rows[2] == 5).all()
    assert "the row of slot 1 could not be read" in caplog.text


def test_on_the_host_the_caller_hears_of_it() -> None:
    with pytest.raises(OSError, match="gone"):
        HostWriter(make_rows()).write(1, failing(OSError("gone")))


@settings(max_examples=20)
@given(data=st.data(), layout=layouts())
def test_a_slab_on_a_device_is_the_slab_on_the_host(
    data: st.DataObject, layout: AdapterLayout, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, copies = tmp_path_factory.mktemp("rows"), FakeCopies()
    writers: list[StagedWriter] = []

    def staged(rows: torch.Tensor) -> RowWriter:
        writers.append(StagedWriter(rows, copies))
        return writers[0]

    both = Slab(layout, 3, CPU), Slab(layout, 3, CPU, writer=staged)
    for seed, slot in enumerate(data.draw(st.lists(st.integers(1, 3), max_size=5))):
        path = write_row(folder / str(seed), layout, data.draw(row_pairs(layout)), seed)
        for slab in both:
            slab.load(slot, path)
        path.unlink()  # what was opened is read all the same
    settle(writers[0], copies)
    host, device = both
    assert torch.equal(host.numbers.view(torch.uint8), device.numbers.view(torch.uint8))
    assert (host.extra_pairs == device.extra_pairs).all()


def test_a_bad_header_is_its_askers_error_on_a_device_too(tmp_path: Path) -> None:
    copies = FakeCopies()
    slab = Slab(small_layout(), 1, CPU, writer=lambda rows: StagedWriter(rows, copies))
    slab.load(1, write_row(tmp_path / "row", small_layout(), (1, 0)))
    (tmp_path / "row").write_bytes(b"short")
    with pytest.raises(AdapterCorrupt):
        slab.load(1, tmp_path / "row")
    slab.before_step(0, [1])
    copies.copying.run()
    assert not slab.numbers[1].any()
    assert not slab.extra_pairs[1].any()
