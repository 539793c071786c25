"""The progress bar of a training run. Knows nothing of how training works."""

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from flora.train import TrainReport, TrainStep

_SMOOTHING = 0.9


class TrainProgressBar:
    """Shows step, smoothed loss and tokens/s: `with TrainProgressBar("pirate", Console()) as bar`.

    The bar itself is the `progress` argument of `flora.train.train`.
    """

    def __init__(self, name: str, console: Console) -> None:
        columns = "[bold]{task.description}", "loss {task.fields[loss]:.3f}"
        self._console = console
        self._bar = Progress(
            TextColumn(columns[0]),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(columns[1]),
            TextColumn("{task.fields[tokens_per_s]:.0f} tokens/s"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._bar.add_task(name, total=None, loss=0.0, tokens_per_s=0.0)
        self._loss: float | None = None

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
        self._bar.update(
            self._task,
            completed=step.step,
            total=step.max_steps,
            loss=self._loss,
            tokens_per_s=step.num_tokens / max(step.elapsed_s, 1e-9),
        )

    def report(self, report: TrainReport) -> None:
        """One line on what came out."""
        self._console.print(
            f"{report.out_dir.name}: {report.num_parameters:,} numbers, {report.num_bytes:,} bytes,"
            f" held-out loss {report.heldout_loss_before:.3f} -> {report.heldout_loss_after:.3f}"
        )
