"""How far a training run is: a bar on a terminal, else a plain line now and then."""

from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from flora.stacked_trainer import TrainStep
from flora.train import TrainReport

_SMOOTHING = 0.9
_LINE_S = 10.0
"""On what is no terminal, a line comes at most so often."""


class TrainProgressBar:
    """Shows step, smoothed loss and tokens/s: `with TrainProgressBar("pirate", Console()) as bar`.

    The bar itself is the `progress` argument of `flora.train.train`.
    """

    def __init__(self, name: str, console: Console) -> None:
        self._name, self._console = name, console
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[told]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(name, total=None, told="")
        self._loss: float | None = None
        self._told_s = 0.0
        self._told_quarters = 0

    def __enter__(self) -> "TrainProgressBar":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def __call__(self, step: TrainStep) -> None:
        kept = step.loss if self._loss is None else self._loss
        self._loss = _SMOOTHING * kept + (1 - _SMOOTHING) * step.loss
        told = _words(step, self._loss)
        self._bar.update(self._task, completed=step.step, total=step.max_steps, told=told)
        is_due = step.elapsed_s - self._told_s >= _LINE_S or step.step == step.max_steps
        if is_due and not self._console.is_terminal:
            self._told_s = step.elapsed_s
            self._say(f"{self._name}: step {step.step} of {step.max_steps}, {told}")

    def heard(self, num_clips: int, num_all: int) -> None:
        """So many clips are encoded, of all, before the first step."""
        self._bar.update(self._task, completed=num_clips, total=num_all, told="clips heard")
        quarters = 4 * num_clips // num_all
        if quarters > self._told_quarters and not self._console.is_terminal:
            self._told_quarters = quarters
            self._say(f"{self._name}: {num_clips} of {num_all} clips heard")

    def report(self, reports: Sequence[TrainReport]) -> None:
        """One line on each adapter that came out."""
        for report in reports:
            before, after = report.heldout_loss_before, report.heldout_loss_after
            self._say(
                f"{report.name}: {report.num_parameters:,} numbers, {report.num_bytes:,} bytes,"
                f" {report.num_steps} steps, held-out loss {before:.3f} -> {after:.3f}"
            )

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)


def _words(step: TrainStep, loss: float) -> str:
    parts = [f"loss {loss:.3f}"]
    if step.heldout_loss is not None:
        parts.append(f"held-out {step.heldout_loss:.3f}")
    if step.num_adapters > 1:
        parts.append(f"{step.num_adapters} adapters")
    return ", ".join([*parts, f"{step.num_tokens / max(step.elapsed_s, 1e-9):.0f} tokens/s"])
