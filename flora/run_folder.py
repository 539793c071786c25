"""Where an unfinished run keeps its checkpoints, with what made them beside it."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from transformers.trainer_utils import get_last_checkpoint

from contracts.errors import InvalidRequest

_ABOUT = "run.json"


class RunFolder:
    """`about` says all that decides what comes out of the run, each thing under its name."""

    def __init__(self, path: Path, about: Mapping[str, str]) -> None:
        self.path = path
        self._about = dict(about)

    def begin(self) -> None:
        """Empty, for a new run."""
        self.remove()
        self.path.mkdir(parents=True)
        (self.path / _ABOUT).write_text(json.dumps(self._about, indent=2), encoding="utf-8")

    def resume(self) -> None:
        """Raises InvalidRequest unless it holds a checkpoint, and one of the same run."""
        if not self.path.is_dir() or get_last_checkpoint(str(self.path)) is None:
            raise InvalidRequest(f"{self.path.parent} has no checkpoint to resume from", "resume")
        try:
            was = json.loads((self.path / _ABOUT).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InvalidRequest(f"{self.path / _ABOUT} cannot be read", "resume") from error
        changed = [name for name, value in self._about.items() if was.get(name) != value]
        if changed:
            raise InvalidRequest(
                f"the checkpoint was made with another {', '.join(changed)}: give what it was made"
                " with, or start anew",
                "resume",
            )

    def remove(self) -> None:
        """The run is over, or is to begin anew."""
        shutil.rmtree(self.path, ignore_errors=True)
