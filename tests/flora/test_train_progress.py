"""The progress bar on a console that records, and its lines where there is no terminal."""

from pathlib import Path

from rich.console import Console

from flora.stacked_trainer import TrainStep
from flora.train import TrainReport
from flora.train_progress import TrainProgressBar


def run(console: Console, num_adapters: int = 1) -> str:
    with TrainProgressBar("tiny", console) as bar:
        for step in range(1, 13):
            heldout = 2.25 if step > 6 else None
            bar(TrainStep(step, 12, num_adapters, 2.5, heldout, 600 * step, 3.0 * step))
        bar.report([TrainReport("tiny", Path("tiny"), 1234, 5678, 12, 2.5, 1.25)])
    return console.export_text()


def test_the_bar_shows_steps_loss_and_speed() -> None:
    text = run(Console(record=True, width=120, force_terminal=True))
    assert "12/12" in text
    assert "loss 2.500, held-out 2.250, 200 tokens/s" in text
    assert "1,234 numbers, 5,678 bytes, 12 steps, held-out loss 2.500 -> 1.250" in text


def test_without_a_terminal_there_is_a_line_now_and_then() -> None:
    lines = run(Console(record=True, width=120, force_terminal=False), 3).splitlines()
    assert lines[:-1] == [
        "tiny: step 4 of 12, loss 2.500, 3 adapters, 200 tokens/s",
        "tiny: step 8 of 12, loss 2.500, held-out 2.250, 3 adapters, 200 tokens/s",
        "tiny: step 12 of 12, loss 2.500, held-out 2.250, 3 adapters, 200 tokens/s",
    ]
    assert lines[-1].startswith("tiny: 1,234 numbers")


def test_hearing_clips_is_told_by_quarters() -> None:
    console = Console(record=True, width=120, force_terminal=False)
    with TrainProgressBar("tiny", console) as bar:
        for number in range(1, 11):
            bar.heard(number, 10)
    lines = console.export_text().splitlines()
    assert lines == [f"tiny: {number} of 10 clips heard" for number in (3, 5, 8, 10)]
