"""The progress bar on a console that records."""

from pathlib import Path

from rich.console import Console

from flora.train import TrainReport, TrainStep
from flora.train_progress import TrainProgressBar


def test_the_bar_shows_steps_loss_and_speed() -> None:
    console = Console(record=True, width=120, force_terminal=True)
    with TrainProgressBar("tiny", console) as bar:
        for step in range(1, 13):
            bar(TrainStep(step, 12, 2.5, 100 * step, 0.5 * step))
        bar.report(TrainReport(Path("tiny"), 1234, 5678, 2.5, 1.25))
    text = console.export_text()
    assert "12/12" in text
    assert "loss 2.500" in text
    assert "200 tokens/s" in text
    assert "1,234 numbers, 5,678 bytes, held-out loss 2.500 -> 1.250" in text
