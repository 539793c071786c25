"""Does to the server what the plan says, at its time: publishes adapters, kills replicas.

Nothing here ends a run: what fails is noted, and the report shows it.
"""

import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

import httpx
import psutil  # type: ignore[import-untyped]

from loadtest.adapter_files import NUMBER_BITS, AdapterFiles
from loadtest.control import Control, own_names
from loadtest.draw import Rng
from loadtest.local_server import LocalServer
from loadtest.plan import Action
from loadtest.tally import Deed

_KILL_S = 60.0
_VARIANTS = 1 << NUMBER_BITS


@dataclass(slots=True)
class Uploads:
    """Adapters that are all different: each one that is given out is a variant of the next folder.

    `first` is the first number, so that a second run does not publish what the first one has.
    """

    folders: Sequence[AdapterFiles]
    first: int = 0
    _num_given: int = 0

    def next(self) -> AdapterFiles:
        """One that nobody has had."""
        number, self._num_given = self._num_given, self._num_given + 1
        turn, folder = divmod(number, len(self.folders))
        return self.folders[folder].variant((self.first + turn) % _VARIANTS)


class Director:
    """`kill_command` is what kills a replica; without it, one of `server` is killed."""

    def __init__(
        self,
        control: Control,
        uploads: Uploads | None,
        server: LocalServer | None,
        rng: Rng,
        kill_command: str = "",
    ) -> None:
        self._control = control
        self._uploads = uploads
        self._server = server
        self._rng = rng
        self._kill_command = kill_command

    def publish_all(self, count: int) -> list[Deed]:
        """The first `count` adapters. Raises httpx.HTTPError: a run without them has no use."""
        assert self._uploads is not None
        return [
            Deed(0.0, "publish", name, self._control.publish(name, self._uploads.next()))
            for name in own_names(count)
        ]

    def do(self, action: Action, at_s: float) -> Deed:
        """One action, now: `at_s` after the start."""
        try:
            if action.kind == "publish":
                what, seconds = self._publish(action.number)
            else:
                what, seconds = self._kill(), 0.0
        except (httpx.HTTPError, OSError, LookupError, subprocess.SubprocessError) as error:
            return Deed(at_s, action.kind, "", error=f"{type(error).__name__}: {error}"[:200])
        except psutil.Error as error:
            return Deed(at_s, action.kind, "", error=str(error)[:200])
        return Deed(at_s, action.kind, what, seconds)

    def _publish(self, number: int) -> tuple[str, float]:
        assert self._uploads is not None
        name = own_names(number + 1)[number]
        return name, self._control.publish(name, self._uploads.next())

    def _kill(self) -> str:
        if self._kill_command:
            command = shlex.split(self._kill_command)
            subprocess.run(command, check=True, timeout=_KILL_S, capture_output=True)
            return self._kill_command
        assert self._server is not None
        return self._server.kill_replica(self._rng)
