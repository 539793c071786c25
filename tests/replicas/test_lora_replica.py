"""LoRA requests beside others: they wait for a seat, and nobody waits for them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from contracts.adapters import BASE
from flora.lora_row import encode_lora
from replicas.lora_seats import LoraSeats
from tests.replicas.engines import Stack, SteppedEngine, make_group, turns, until
from tests.replicas.loras import make_pairs, small_lora_layout

LAYOUT = small_lora_layout()


@pytest.fixture
async def one_seat(engine: SteppedEngine, tmp_path: Path) -> AsyncIterator[Stack]:
    stack = Stack(engine, tmp_path, seats=LoraSeats(1))
    yield stack
    await stack.close()


def lora_row(seed: int) -> bytes:
    return encode_lora(LAYOUT, make_pairs(LAYOUT, (1, 0, 0, 2), seed))


async def test_the_second_lora_waits_for_the_first(one_seat: Stack, engine: SteppedEngine) -> None:
    one = await one_seat.publish("one", lora_row(1))
    two = await one_seat.publish("two", lora_row(2))
    ada = await one_seat.publish("ada")
    await one_seat.replica.prefetch((one, two, ada))
    group = make_group(one, two, ada, BASE, one)
    batches = await one_seat.read(group)
    await until(lambda: len(engine.sources) == 4)
    await turns()
    assert sorted(engine.sources) == sorted(group[i].request_id for i in (0, 2, 3, 4))
    engine.step(7, "stop")
    await until(lambda: group[1].request_id in engine.sources)
    engine.step(8, "stop")
    found: dict[int, list[int]] = {}
    while (batch := await batches.get()) is not None:
        for delta in batch.deltas:
            found.setdefault(delta.index, []).extend(delta.token_ids)
    assert found == {0: [7], 1: [8], 2: [7], 3: [7], 4: [7]}


async def test_one_that_is_cancelled_while_it_waits_leaves_no_trace(
    one_seat: Stack, engine: SteppedEngine
) -> None:
    one = await one_seat.publish("one", lora_row(1))
    two = await one_seat.publish("two", lora_row(2))
    await one_seat.replica.prefetch((one, two))
    group = make_group(one, two)
    batches = await one_seat.read(group)
    await one_seat.replica.cancel((group[1].request_id,))
    engine.step(7, "stop")
    while await batches.get() is not None:
        pass
    assert group[1].request_id not in engine.submitted
    again = await one_seat.read(make_group(two, first_id=5))
    await until(lambda: "5" in engine.sources)
    engine.step(9, "stop")
    while await again.get() is not None:
        pass
