import sys
from pathlib import Path

import httpx
import pytest

from loadtest.adapter_files import AdapterFiles, read_folders
from loadtest.control import Control
from loadtest.director import Director, Uploads
from loadtest.plan import Action
from tests.loadtest.loads import rng

DEMO = Path(__file__).parents[2] / "flora" / "demo" / "adapters"


class FakeControl(Control):
    """Remembers what was published; refuses where it is told to."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.published: dict[str, list[AdapterFiles]] = {}
        self._refuses = refuses

    def publish(self, name: str, files: AdapterFiles) -> float:
        if self._refuses:
            raise httpx.ConnectError("nobody there")
        self.published.setdefault(name, []).append(files)
        return 0.25


def make_director(control: Control, command: str = "") -> Director:
    folders = read_folders(DEMO)[:2]
    return Director(control, Uploads(folders, first=(1 << 20) - 1), None, rng(), command)


def test_all_that_is_published_is_different() -> None:
    control = FakeControl()
    director = make_director(control)
    director.publish_all(4)
    deeds = [director.do(Action(1.0, "publish", 2), 1.5) for _ in range(2)]
    assert [(d.at_s, d.kind, d.what, d.seconds) for d in deeds] == [
        (1.5, "publish", "loadtest-2", 0.25)
    ] * 2
    assert len(control.published["loadtest-2"]) == 3
    given = [files.weights for found in control.published.values() for files in found]
    assert len(set(given)) == 6


def test_what_fails_is_noted_and_ends_nothing() -> None:
    deed = make_director(FakeControl(refuses=True)).do(Action(0.0, "publish"), 2.0)
    assert "nobody there" in deed.error
    command = f"{sys.executable} -c 'raise SystemExit(3)'"
    deed = make_director(FakeControl(), command).do(Action(0.0, "kill"), 2.0)
    assert "exit status 3" in deed.error
    deed = make_director(FakeControl(), "/nowhere/kill").do(Action(0.0, "kill"), 2.0)
    assert "FileNotFoundError" in deed.error


def test_a_command_may_kill(tmp_path: Path) -> None:
    mark = tmp_path / "killed"
    deed = make_director(FakeControl(), f"touch {mark}").do(Action(0.0, "kill"), 2.0)
    assert (deed.error, mark.exists()) == ("", True)


def test_a_run_without_its_adapters_is_none() -> None:
    with pytest.raises(httpx.ConnectError):
        make_director(FakeControl(refuses=True)).publish_all(1)
