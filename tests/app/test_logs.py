"""Log lines: JSON with the request they belong to, no exception's message, and nobody waits."""

import json
import logging
import queue
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.logs import LogQueue, Logs, stack_of
from app.request_context import RequestContext, enter_request
from app.telemetry_config import LogSettings
from contracts.access import Caller
from contracts.adapters import TenantId

LOG = logging.getLogger("app.something")
FOREIGN = logging.getLogger("somebody.else")
SECRET = "canary-1f2e"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Levels are the process's; other tests have their own ideas of them."""
    root = logging.getLogger()
    before = root.level, logging.getLogger("app").level
    yield
    root.setLevel(before[0])
    logging.getLogger("app").setLevel(before[1])


def lines(folder: Path, log: Logs) -> list[str]:
    log.close()
    (path,) = folder.glob("door-*.log")
    return path.read_text().splitlines()


def test_a_line_is_one_json_object_with_its_request(tmp_path: Path) -> None:
    log = Logs(LogSettings(directory=str(tmp_path)), "door")
    caller = Caller("k1", TenantId("acme"), frozenset())
    leave = enter_request(RequestContext("req-1", caller=caller))
    LOG.warning("hello %s\n", "world", extra={"attempt": 3})
    leave()
    LOG.info("nobody's")
    first, second = (json.loads(line) for line in lines(tmp_path, log))
    assert first.pop("time").endswith("+00:00")
    assert first.pop("process") > 0
    assert first == {
        "level": "WARNING",
        "logger": "app.something",
        "message": "hello world\n",
        "request_id": "req-1",
        "tenant": "acme",
        "key_id": "k1",
        "attempt": 3,
    }
    assert "request_id" not in second


def test_an_exception_shows_its_type_and_place_but_not_its_words(tmp_path: Path) -> None:
    log = Logs(LogSettings(directory=str(tmp_path)), "door")
    try:
        try:
            int(SECRET)
        except ValueError as error:
            raise RuntimeError(f"cannot read {SECRET}") from error
    except RuntimeError:
        LOG.exception("it failed")
    text = "\n".join(lines(tmp_path, log))
    line = json.loads(text)
    assert SECRET not in text
    assert "ValueError" in line["stack"]
    assert "RuntimeError" in line["stack"]
    assert "test_logs.py" in line["stack"]


def test_a_stack_ends_where_a_chain_bites_its_tail() -> None:
    first, second = ValueError("a"), TypeError("b")
    first.__cause__, second.__cause__ = second, first
    assert stack_of(first) == "TypeError\n\nValueError"


def test_text_says_the_same(tmp_path: Path) -> None:
    log = Logs(LogSettings(format="text", directory=str(tmp_path)), "door")
    leave = enter_request(RequestContext("req-1"))
    LOG.info("hello", extra={"attempt": 3, "_of_a_library": 1})
    leave()
    (line,) = lines(tmp_path, log)
    assert line.endswith("INFO app.something: hello request_id=req-1 attempt=3")


def test_our_level_is_as_set_and_others_are_heard_from_warning_on(tmp_path: Path) -> None:
    log = Logs(LogSettings(level="DEBUG", directory=str(tmp_path)), "door")
    LOG.debug("ours")
    FOREIGN.info("chatter")
    FOREIGN.warning("trouble")
    assert [json.loads(line)["message"] for line in lines(tmp_path, log)] == ["ours", "trouble"]


def test_files_are_bounded(tmp_path: Path) -> None:
    log = Logs(LogSettings(directory=str(tmp_path), max_file_bytes=4096), "door")
    for number in range(200):
        LOG.info("a line of some length, number %d", number)
    log.close()
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 2
    assert max(sizes) <= 4096


def test_a_full_queue_drops_lines_and_counts_them() -> None:
    handler = LogQueue(queue.Queue(2))
    for _ in range(5):
        handler.handle(logging.makeLogRecord({"msg": "x"}))
    assert handler.num_dropped == 3


def test_what_is_not_text_does_not_break_a_line(tmp_path: Path) -> None:
    log = Logs(LogSettings(directory=str(tmp_path)), "door")
    # Past the other handlers: a report of a test cannot carry it from process to process.
    where = (LOG.name, logging.INFO, __file__, 1)
    log._handler.handle(
        LOG.makeRecord(*where, "bad \ud800 half", (), None, extra={"what": object()})
    )
    assert "bad" in json.loads(lines(tmp_path, log)[0])["message"]
