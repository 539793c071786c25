"""The lines of the access log, as a fixture."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    """Records as they come; their fields are attributes."""
    found: list[Any] = []
    handler = logging.Handler()
    handler.emit = found.append  # type: ignore[method-assign]
    log = logging.getLogger("app.access_log")
    before = log.level
    log.setLevel(logging.DEBUG)
    log.addHandler(handler)
    yield found
    log.removeHandler(handler)
    log.setLevel(before)
