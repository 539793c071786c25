import json
from pathlib import Path

import pytest

from contracts.errors import InvalidRequest
from flora.eval.multipl_e import (
    Judgement,
    Problem,
    cut,
    judge,
    read_problems,
    require_usable,
    summarise,
)
from flora.eval.sandbox import Sandbox
from flora.eval.tasks import judge_samples
from flora.eval.toolchains import TOOLCHAINS, find_toolchain, system_program
from flora.eval.watched_process import Limits, Run
from tests.flora.eval.test_sandbox import HAS_NAMESPACES

SANDBOX = Sandbox("namespaces" if HAS_NAMESPACES else "limits", Limits(wall_s=10))
DOUBLE = {
    "pl": (
        Problem(
            "double",
            "sub double {\n    my($x) = @_;\n",
            "exit(double(21) == 42 ? 0 : 1);",
            ("\nsub", "\n\n"),
        ),
        "    return 2 * $x;\n}\n\nsub other {",
        "    return $x;\n}\n",
    ),
    "sh": (
        Problem("double", "double() {\n", '}\nset -e\n[[ $(double 21) = "42" ]]\n', ("\n}",)),
        "    echo $((2 * $1))\n}\nexit 1",
        "    echo $1\n}",
    ),
    "py": (
        Problem("double", "def double(x):\n", "assert double(21) == 42\n", ("\ndef",)),
        "    return 2 * x\ndef more(): pass",
        "    return x",
    ),
}
"""A problem in MultiPL-E's form with a right and a wrong completion."""


class CountingRunner:
    """Says what it is told to, and counts."""

    def __init__(self, run: Run) -> None:
        self.answer = run
        self.sources: list[str] = []

    def run(self, source: str, file_name: str, command: str) -> Run:
        self.sources.append(source)
        return self.answer


@pytest.mark.parametrize("language", DOUBLE)
def test_right_programs_pass_and_wrong_ones_fail(language: str) -> None:
    problem, right, wrong = DOUBLE[language]
    toolchain = find_toolchain(language)
    assert toolchain is not None
    found = judge_samples(problem, [right, wrong, "(", right], toolchain, SANDBOX)
    assert found.verdicts == ("passed", "failed", "failed", "passed")


def test_equal_programs_run_once() -> None:
    runner = CountingRunner(Run("exit", 0, b"", b"", 0.1))
    toolchain = TOOLCHAINS["sh"][0]
    problem = Problem("p", "", "", ("\n",))
    found = judge_samples(problem, ["a\nb", "a\nc", "d"], toolchain, runner)
    assert sorted(runner.sources) == ["a\n", "d\n"]
    assert found.num_passed == 3


@pytest.mark.parametrize(
    ("run", "language", "verdict"),
    [
        (Run("exit", 0, b"", b"a warning", 1), "rb", "passed"),
        (Run("exit", 0, b"", b"FAILURE", 1), "rkt", "failed"),
        (Run("exit", 0, b"", b"\n", 1), "rkt", "passed"),
        (Run("exit", 1, b"", b"", 1), "rb", "failed"),
        (Run("time", -1, b"", b"", 1), "rb", "time"),
        (Run("memory", -1, b"", b"", 1), "rb", "memory"),
        (Run("output", -1, b"", b"", 1), "rb", "output"),
    ],
)
def test_verdicts(run: Run, language: str, verdict: str) -> None:
    assert judge("", TOOLCHAINS[language][0], CountingRunner(run)) == verdict


def test_a_completion_ends_at_the_first_stop() -> None:
    assert cut("abc\n#d\n\n", ("\n\n", "\n#")) == "abc"
    assert cut("abc", ("x",)) == "abc"


def test_pass_rates_are_over_problems() -> None:
    judgements = [Judgement("a", ("passed",) * 10), Judgement("b", ("failed",) * 5 + ("time",) * 5)]
    estimates, verdicts = summarise(judgements, seed=0)
    assert {name: found.value for name, found in estimates.items()} == {
        "pass@1": 0.5,
        "pass@10": 0.5,
    }
    assert verdicts == {"passed": 10, "failed": 5, "time": 5}


def test_problems_are_read(tmp_path: Path) -> None:
    row = {"name": "n", "prompt": "p", "tests": "t", "stop_tokens": ["\n\n"], "language": "rb"}
    path = tmp_path / "humaneval-rb-reworded.jsonl"
    path.write_text(2 * (json.dumps(row) + "\n"))
    assert read_problems(tmp_path, "rb", 1) == [Problem("n", "p", "t", ("\n\n",))]
    with pytest.raises(InvalidRequest, match="no language 'cobol'"):
        read_problems(tmp_path, "cobol")
    with pytest.raises(InvalidRequest, match="say with --data"):
        read_problems(tmp_path, "pl")
    path.write_text("{}")
    with pytest.raises(InvalidRequest, match="is not a MultiPL-E file"):
        read_problems(tmp_path, "rb")


def test_the_first_toolchain_that_is_there_is_taken() -> None:
    found = find_toolchain("d", lambda name: "/usr/bin/gdc" if name == "gdc" else None)
    assert found is not None
    assert found.programs == ("gdc",)
    assert find_toolchain("d", lambda name: None) is None
    assert system_program("sh") is not None


def test_what_a_language_lacks_is_said() -> None:
    perl = TOOLCHAINS["pl"][0]
    missing = Run("exit", 2, b"", b"Can't locate Test/Deep.pm\nand more", 0.1)
    with pytest.raises(InvalidRequest, match=r"tests cannot run: Can't locate Test/Deep\.pm$"):
        require_usable("pl", perl, CountingRunner(missing))
    with pytest.raises(InvalidRequest, match="no toolchain: gdc is not installed"):
        require_usable("d", None, CountingRunner(missing))
    shell = TOOLCHAINS["sh"][0]
    assert require_usable("sh", shell, SANDBOX) is shell
