import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from loadtest import compare
from loadtest.control import Models
from loadtest.outcome import Outcome
from loadtest.plan import Arrival, Plan
from loadtest.plots import draw_run, render
from loadtest.report import Result, curves_of, write_report
from loadtest.slo import judge, parse_slo
from loadtest.summary import summarise
from loadtest.tally import Deed, Reading, Tally
from tests.loadtest.loads import make_ask, make_outcome


def make_result(outcomes: list[Outcome], slo: str = "ttft_p95_s=1", title: str = "burst") -> Result:
    tally = Tally(
        outcomes,
        [Deed(2.0, "kill", "replica <1>"), Deed(3.0, "publish", "loadtest-0", 0.1)],
        [Reading(float(s), "door", 10**8, 50, 4) for s in range(10)],
    )
    arrivals = tuple(Arrival(outcome.at_s, make_ask()) for outcome in outcomes)
    metrics = summarise(tally, Plan(10.0, arrivals))
    return Result(
        title=title,
        question="What do clients get?",
        command="locust --shape burst",
        config={"seed": 3, "url": "http://x"},
        duration_s=10.0,
        models=Models("base", ("base:<a>", "base:b")),
        tally=tally,
        metrics=metrics,
        verdicts=judge([parse_slo(slo, [])], metrics),
    )


def some_outcomes() -> list[Outcome]:
    good = [make_outcome(at_s=s / 4, adapter=s % 3 - 1, group="ab"[s % 2]) for s in range(40)]
    return [*good, make_outcome(at_s=9.9, code="timeout", ttft_s=None, num_tokens=0, gaps_s=())]


def test_a_report_is_one_page_and_one_record(tmp_path: Path) -> None:
    page, record = write_report(make_result(some_outcomes(), "ttft_p95_s=0.01"), tmp_path / "new")
    text = page.read_text()
    assert text.count("<svg") == 2
    assert "src=" not in text
    assert "MISSED" in text
    assert "base:&lt;a&gt;" in text
    assert "replica &lt;1&gt;" in text
    found = json.loads(record.read_text())
    assert found["name"] == "loadtest-burst"
    assert found["command"] == "locust --shape burst"
    assert found["metrics"]["requests"] == 41
    assert found["config"]["adapters"]["base:b"] == {"ok": 13}
    assert found["config"]["failures"] == {"timeout": 1}
    assert found["config"]["slos"] == {"ttft_p95_s <= 0.01": False}
    assert "missed: ttft_p95_s <= 0.01" in found["verdict"]


def test_a_run_without_an_answer_has_a_report_too(tmp_path: Path) -> None:
    page, _ = write_report(make_result([]), tmp_path)
    assert "not measured" in page.read_text()


def test_pictures_are_well_formed_and_always_the_same() -> None:
    tally = make_result(some_outcomes()).tally
    text = render(draw_run(tally, 10.0))
    assert ElementTree.fromstring(text).tag.endswith("svg")
    assert text == render(draw_run(tally, 10.0))


def test_curves_are_of_all_and_of_each_group() -> None:
    found = curves_of(some_outcomes())
    assert set(found) == {"all", "a", "b"} | {some_outcomes()[-1].group}
    assert found["a"]["first token"][-1] == 0.1


def test_records_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, record = write_report(make_result(some_outcomes()), tmp_path / "ours")
    copy = tmp_path / "theirs" / record.name
    copy.parent.mkdir()
    copy.write_text(record.read_text())
    paths = [str(record), str(copy)]
    compare.main([*paths, "--html", str(tmp_path / "both.html")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["metric", "ours/burst", "theirs/burst"]
    assert ["ttft_p50_s", "0.1", "0.1"] in [line.split() for line in lines]
    page = (tmp_path / "both.html").read_text()
    assert page.count("<svg") == 1
    assert "theirs/burst" in page
