from pathlib import Path

import pytest

from adapter_cache.node_ledger import locked_ledger, read_total_bytes


def test_the_sum_is_written_back_when_the_lock_is_released(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with locked_ledger(path) as ledger:
        ledger.total_bytes += 1_000_000
    assert read_total_bytes(path) == 1_000_000
    with locked_ledger(path) as ledger:
        ledger.total_bytes -= 999_999
    assert read_total_bytes(path) == 1


def test_an_error_keeps_what_was_counted_so_far(tmp_path: Path) -> None:
    path = tmp_path / "ledger"

    def fail() -> None:
        with locked_ledger(path) as ledger:
            ledger.total_bytes = 7
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert read_total_bytes(path) == 7


@pytest.mark.parametrize("text", [b"", b"-5", b"half a numb"])
def test_what_is_no_number_counts_as_nothing(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "ledger").write_bytes(text)
    assert read_total_bytes(tmp_path / "ledger") == 0
