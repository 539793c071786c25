import json
from pathlib import Path

import pytest

from app.bench_modules import find_bench_modules
from benchmarks.gpu_suite import STEPS, Step, choose, run, save
from benchmarks.record import ROOT


def step(code: str) -> Step:
    """A step that is a line of Python."""
    return Step("step", "timeit", ("-n", "1", "-r", "1", code))


def test_steps_are_named_once_and_run_what_there_is() -> None:
    names = [step.name for step in STEPS]
    modules = {*find_bench_modules().values(), "pytest"}
    assert len(set(names)) == len(names)
    assert {step.module for step in STEPS} <= modules
    for arguments in (step.arguments for step in STEPS if step.module == "pytest"):
        files = [argument for argument in arguments if argument.endswith(".py")]
        assert files
        assert all((ROOT / file).exists() for file in files)


def test_results_of_a_step_carry_its_name(tmp_path: Path) -> None:
    for each in STEPS:
        command = each.command(tmp_path, Path("models/x"))
        ending = "xml" if each.module == "pytest" else "json"
        assert command[-1] == str(tmp_path / f"{each.name}.{ending}")
        assert "{" not in " ".join(command)


def test_some_steps_may_be_chosen() -> None:
    assert choose([]) == list(STEPS)
    assert [each.name for each in choose(["stall-cuda", "kernels-cuda"])] == [
        "stall-cuda",
        "kernels-cuda",
    ]
    with pytest.raises(ValueError, match="no step nothing; there are tests-kernels"):
        choose(["nothing"])


@pytest.mark.parametrize(
    ("code", "limit_s", "status"),
    [("print(7)", 60.0, "passed"), ("1 / 0", 60.0, "failed"), ("while True: pass", 0.5, "late")],
)
def test_every_end_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, limit_s: float, status: str
) -> None:
    own = step(code)
    command = [*own.command(tmp_path, tmp_path)[:3], *own.arguments]
    monkeypatch.setattr(Step, "command", lambda self, out, model: command)
    outcome = run(own, tmp_path, tmp_path, limit_s)
    assert outcome.status == status
    assert (tmp_path / "step.log").exists()
    for _ in range(2):  # a second run of a step takes the place of the first
        save(tmp_path, outcome)
    summary = json.loads((tmp_path / "suite.json").read_text())
    assert summary["steps"]["step"]["status"] == status
    assert len(summary["steps"]) == 1
