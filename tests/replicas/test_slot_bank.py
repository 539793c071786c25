from pathlib import Path

import pytest

from contracts.errors import AdapterCorrupt
from replicas.slot_bank import SlotBank


class Memory:
    """Says what was done to which slot; a file called "bad" is no row."""

    def __init__(self) -> None:
        self.done: list[tuple[str, int]] = []

    def load(self, slot: int, path: Path) -> None:
        if path.name == "absent":
            raise FileNotFoundError(path)
        if path.name == "bad":
            raise AdapterCorrupt("no row")
        self.done.append((path.name, slot))

    def wipe(self, slot: int) -> None:
        self.done.append(("wipe", slot))

    def poison(self, slot: int) -> None:
        self.done.append(("poison", slot))


ROWS = {number: Path(f"row-{number}") for number in range(1, 6)}


def test_an_adapter_is_loaded_once_while_it_has_a_slot() -> None:
    bank = SlotBank(memory := Memory(), 2)
    assert bank.add(1, ROWS[1])
    assert not bank.add(1, ROWS[1])
    bank.activate({1: ROWS[1], 2: ROWS[2]})
    assert memory.done == [("row-1", 1), ("row-2", 2)]
    assert bank.slots_of([0, 2, 1, 9]) == [0, 2, 1, 0]
    assert (bank.has(2), bank.has(3)) == (True, False)
    assert len(bank.activation_hold_s) == 2


def test_the_least_recently_used_makes_room() -> None:
    bank = SlotBank(memory := Memory(), 2)
    for number in (1, 2, 1, 3):
        bank.add(number, ROWS[number])
    assert bank.resident == {1, 3}
    assert bank.num_evictions == 1
    assert memory.done[-1] == ("row-3", 2)
    assert bank.pin(1)
    bank.add(4, ROWS[4])
    bank.add(5, ROWS[5])
    assert bank.resident == {1, 5}
    bank.clear()
    assert "0/2 used" in repr(bank)


@pytest.mark.parametrize(("name", "error"), [("bad", AdapterCorrupt), ("absent", OSError)])
def test_a_bad_file_is_its_askers_error_and_takes_no_slot(
    name: str, error: type[Exception]
) -> None:
    bank = SlotBank(memory := Memory(), 2)
    with pytest.raises(error):
        bank.add(1, Path(name))
    assert not bank.has(1)
    # In a step there is nobody to tell: the slot is poisoned, and free again when it is asked for.
    bank.activate({1: Path(name), 2: ROWS[2]})
    assert [what for what, _ in memory.done] == ["poison", "row-2"]
    assert bank.has(1)
    bank.remove_broken(2)
    bank.remove_broken(1)
    assert bank.resident == {2}
    assert bank.add(1, ROWS[1])


def test_an_adapter_without_a_row_is_an_identity() -> None:
    bank = SlotBank(memory := Memory(), 1)
    bank.activate({7: None})
    assert memory.done == [("wipe", 1)]
    assert bank.remove(7)
    assert not bank.remove(7)
