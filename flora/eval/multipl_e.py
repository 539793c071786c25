"""MultiPL-E: problems, the program that a completion makes, and whether it passes.

Source: Cassano et al. 2023, "MultiPL-E", HumanEval split. Knows no model.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from contracts.errors import InvalidRequest
from flora.eval.estimate import Estimate, estimate
from flora.eval.pass_at_k import pass_at_k
from flora.eval.toolchains import TOOLCHAINS, Toolchain
from flora.eval.watched_process import Run

Verdict = Literal["passed", "failed", "time", "memory", "output"]
"""Whether the tests passed, and of what the program took too much otherwise."""

_KS = (1, 10, 100)


class Runner(Protocol):
    """Runs one program, as `flora.eval.sandbox.Sandbox` does."""

    def run(self, source: str, file_name: str, command: str) -> Run:
        """`command` in a folder that holds `source` as `file_name`."""


@dataclass(frozen=True, slots=True)
class Problem:
    """`prompt` is continued by the model up to the first of `stop`; `tests` are run behind it."""

    name: str
    prompt: str
    tests: str
    stop: tuple[str, ...]

    def program(self, completion: str) -> str:
        """What is run for a completion."""
        return self.prompt + cut(completion, self.stop) + "\n" + self.tests


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdicts on all samples of one problem."""

    name: str
    verdicts: tuple[Verdict, ...]

    @property
    def num_passed(self) -> int:
        return self.verdicts.count("passed")


def cut(completion: str, stop: Iterable[str]) -> str:
    """The completion up to the first stop text."""
    ends = [completion.find(text) for text in stop]
    return completion[: min((end for end in ends if end >= 0), default=len(completion))]


def read_problems(folder: Path, language: str, limit: int | None = None) -> list[Problem]:
    """The first `limit` problems of `humaneval-LANGUAGE-reworded.jsonl`. Raises InvalidRequest."""
    if language not in TOOLCHAINS:
        known = ", ".join(TOOLCHAINS)
        raise InvalidRequest(f"no language '{language}'; there are: {known}", "languages")
    path = folder / f"humaneval-{language}-reworded.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines[:limit]]
        return [
            Problem(row["name"], row["prompt"], row["tests"], tuple(row["stop_tokens"]))
            for row in rows
        ]
    except OSError as error:
        hint = "say with --data where MultiPL-E is"
        raise InvalidRequest(f"{path}: {error.strerror}; {hint}", "data") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidRequest(f"{path.name} is not a MultiPL-E file: {error!r}", "data") from error


def require_usable(language: str, toolchain: Toolchain | None, runner: Runner) -> Toolchain:
    """The toolchain, tried once. Raises InvalidRequest with what is missing."""
    if toolchain is None:
        raise InvalidRequest(
            f"no toolchain: {TOOLCHAINS[language][-1].programs[0]} is not installed"
        )
    run = runner.run("", toolchain.file_name, toolchain.probe)
    if run.exit_code != 0:
        reason = run.stderr.decode(errors="replace").strip().partition("\n")[0]
        raise InvalidRequest(f"its tests cannot run: {reason or run}")
    return toolchain


def judge(program: str, toolchain: Toolchain, runner: Runner) -> Verdict:
    """Runs one program: it passes by ending well, and in silence where the language asks for it."""
    run = runner.run(program, toolchain.file_name, toolchain.command)
    if run.end != "exit":
        return run.end
    is_well = run.exit_code == 0 and not (toolchain.needs_silence and run.stderr.strip())
    return "passed" if is_well else "failed"


def summarise(
    judgements: Sequence[Judgement], seed: int
) -> tuple[dict[str, Estimate], dict[str, int]]:
    """pass@k for each k that the samples allow, over problems; and how often each verdict fell."""
    num_samples = min((len(j.verdicts) for j in judgements), default=0)
    estimates = {
        f"pass@{k}": estimate(
            [pass_at_k(len(j.verdicts), j.num_passed, k) for j in judgements], seed=seed
        )
        for k in _KS
        if k <= num_samples
    }
    return estimates, dict(Counter(verdict for j in judgements for verdict in j.verdicts))
