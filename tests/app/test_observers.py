"""Several observers heard as one: each beginning and end by all, tokens by the first."""

import pytest

from app.observers import Observers
from app.request_observer import RequestEnd
from contracts.access import LOCAL_CALLER, Caller
from contracts.adapters import Digest

END = RequestEnd("stop", 1, 0, 1, 0.1, 0.2, Digest(""))


class Recorder:
    def __init__(self, *, is_broken: bool = False) -> None:
        self.heard: list[str] = []
        self._is_broken = is_broken

    def began(self, request_id: str, caller: Caller) -> None:
        self._hear("began")

    def generated(self, request_id: str, caller: Caller, num_tokens: int, gap_s: float) -> None:
        self._hear("generated")

    def ended(self, request_id: str, caller: Caller, model: str, end: RequestEnd) -> None:
        self._hear("ended")

    def _hear(self, what: str) -> None:
        self.heard.append(what)
        if self._is_broken:
            raise RuntimeError("broken")


def test_one_that_fails_keeps_nothing_from_the_others(caplog: pytest.LogCaptureFixture) -> None:
    counter, broken, last = Recorder(), Recorder(is_broken=True), Recorder()
    observers = Observers(counter, broken, last)
    observers.began("r", LOCAL_CALLER)
    observers.generated("r", LOCAL_CALLER, 1, 0.1)
    observers.ended("r", LOCAL_CALLER, "m", END)
    assert counter.heard == ["began", "generated", "ended"]
    assert broken.heard == last.heard == ["began", "ended"]
    assert caplog.text.count("an observer of requests failed") == 2
