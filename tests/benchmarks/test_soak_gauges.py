"""What counts as a leak, and what the gauges of a page add up to."""

import os
from pathlib import Path

from benchmarks.soak_gauges import Allowance, counts_of, leaks, open_blobs

ALLOWED = Allowance()
PAGE = """# HELP flora_running_requests Prompts that have not ended.
# TYPE flora_running_requests gauge
flora_running_requests 2.0
flora_event_loop_tasks 5.0
flora_event_loop_tasks{replica="r0"} 7.0
flora_other 9.0
"""


def test_a_gauge_of_several_processes_is_added_up() -> None:
    assert counts_of(PAGE) == {"running_requests": 2.0, "event_loop_tasks": 12.0}


def test_what_must_be_zero_is_a_leak_at_one() -> None:
    found = leaks({"stream_leases": 5.0}, {"stream_leases": 1.0, "node_cache_pins": 0.0}, ALLOWED)
    assert found == ["stream_leases: 5 before, 1 after"]


def test_memory_may_grow_by_its_share_and_no_more() -> None:
    bound = 200 + ALLOWED.rss_mb + ALLOWED.rss_share * 200
    assert not leaks({"door_rss_mb": 200.0}, {"door_rss_mb": bound}, ALLOWED)
    assert leaks({"door_rss_mb": 200.0}, {"door_rss_mb": bound + 1}, ALLOWED)


def test_descriptors_threads_and_tasks_may_breathe() -> None:
    before = {"door_fds": 50.0, "door_threads": 40.0, "event_loop_tasks": 10.0}
    assert not leaks(before, {name: value + 8 for name, value in before.items()}, ALLOWED)
    assert len(leaks(before, {name: value + 25 for name, value in before.items()}, ALLOWED)) == 3


def test_slots_fill_and_that_is_no_leak() -> None:
    assert not leaks({"slots_used": 1.0}, {"slots_used": 64.0}, ALLOWED)


def test_pins_are_the_blobs_that_a_process_holds_open(tmp_path: Path) -> None:
    (tmp_path / ("a" * 64)).write_bytes(b"blob")
    (tmp_path / ".ledger").write_bytes(b"0")
    with (tmp_path / ("a" * 64)).open("rb"), (tmp_path / ".ledger").open("rb"):
        assert open_blobs(os.getpid(), tmp_path) == 1
    assert open_blobs(os.getpid(), tmp_path) == 0
