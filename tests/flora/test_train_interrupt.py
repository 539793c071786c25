"""The first Ctrl-C is a wish, the second one an order."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from flora.train_interrupt import TrainInterrupt


@pytest.fixture
def before() -> Iterator[object]:
    """What Python does by itself on Ctrl-C; a shell that starts tests in its back turns it off."""
    outside = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, outside)


def test_once_is_a_flag_and_twice_is_an_interrupt(before: object) -> None:
    with TrainInterrupt() as interrupt:
        assert not interrupt()
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_get_no_signals_and_ask_for_none() -> None:
    found = []

    def enter() -> None:
        with TrainInterrupt() as interrupt:
            found.append(interrupt())

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [False]
