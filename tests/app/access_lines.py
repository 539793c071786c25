"""The lines of the access log, as a fixture."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest


class _Keeper(logging.Handler):
    def __init__(self, found: list[Any]) -> None:
        super().__init__()
        self._found = found

    def emit(self, record: logging.LogRecord) -> None:
        self._found.append(record)


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    """Records as they come; their fields are attributes."""
    found: list[Any] = []
    handler = _Keeper(found)
    log = logging.getLogger("app.access_log")
    before = log.level
    log.setLevel(logging.DEBUG)
    log.addHandler(handler)
    yield found
    log.removeHandler(handler)
    log.setLevel(before)
