import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import app
from app.cli_simulate import parse_event
from contracts.errors import InvalidRequest
from routing.simulator.routers import ROUTERS

SMALL = ["simulate", "--replicas", "3", "--doors", "2", "--seconds", "2", "--adapters", "100"]


def test_all_routers_are_compared_and_written_down(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    result = CliRunner().invoke(app, [*SMALL, "--event", "kill:1:0", "--json", str(path)])
    assert result.exit_code == 0, result.output
    found = json.loads(path.read_text())
    assert list(found["routers"]) == list(ROUTERS)
    assert found["config"]["replicas"] == 3
    assert found["routers"]["flora"]["resent"] > 0
    assert all(router in result.output for router in ("flora", "round-robin", "oracle"))


def test_the_same_seed_writes_the_same(tmp_path: Path) -> None:
    texts = []
    for name in ("first", "again"):
        path = tmp_path / name
        options = ["--router", "flora", "--profile", "cpu", "--json", str(path)]
        assert CliRunner().invoke(app, [*SMALL, *options]).exit_code == 0
        texts.append(path.read_text())
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--router", "best"], "no router 'best'"),
        (["--profile", "tpu"], "no profile 'tpu'"),
        (["--trace", "azure"], "no trace 'azure'"),
        (["--trace", "azure-conv", "--data", "absent"], "say with --data where it is"),
        (["--event", "kill:1:9"], "no replica 9 to kill"),
    ],
)
def test_what_cannot_be_simulated_is_refused(options: list[str], message: str) -> None:
    result = CliRunner().invoke(app, [*SMALL, *options])
    assert isinstance(result.exception, InvalidRequest)
    assert message in str(result.exception)


@pytest.mark.parametrize("text", ["kill:1", "add:1:2", "add:soon", "stop:1:1", "kill"])
def test_an_event_is_of_one_of_two_kinds(text: str) -> None:
    with pytest.raises(InvalidRequest, match="kill:SECONDS:REPLICA"):
        parse_event(text)
