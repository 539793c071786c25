"""The command line: words, exit codes, and a real server behind the adapter commands."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app import cli, cli_options
from contracts.errors import InvalidRequest
from flora.adapter_files import write_adapter
from tests.app.serving import serving_in_a_thread
from tests.flora.adapters import make_adapter, make_bytes
from tests.flora.layouts import make_layout


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving_in_a_thread() as address:
        yield address


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    weights, config = make_bytes()
    (tmp_path / "adapter_model.safetensors").write_bytes(weights)
    (tmp_path / "adapter_config.json").write_bytes(config)
    return tmp_path


def run(*words: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Exit code of `flora WORDS`."""
    monkeypatch.setattr(sys, "argv", ["flora", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def test_adapters_are_pushed_listed_shown_and_deleted(
    url: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ["--url", url]
    assert run("adapters", "push", "mine", str(folder), *at, monkeypatch=monkeypatch) == 0
    assert "tiny:mine@1" in capsys.readouterr().out
    assert run("adapters", "list", *at, monkeypatch=monkeypatch) == 0
    assert "mine\t@1\trank 1" in capsys.readouterr().out
    assert run("adapters", "show", "mine", *at, monkeypatch=monkeypatch) == 0
    assert json.loads(capsys.readouterr().out)["versions"][0]["version"] == 1
    assert run("adapters", "delete", "mine", *at, monkeypatch=monkeypatch) == 0
    assert run("adapters", "show", "mine", *at, monkeypatch=monkeypatch) == cli.EXIT_CALLER
    assert "does not exist" in capsys.readouterr().err


def test_versions_are_rolled_back_pinned_and_prefetched(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def flora(*words: str) -> str:
        assert run("adapters", *words, "--url", url, monkeypatch=monkeypatch) == 0
        return capsys.readouterr().out

    pushed = []
    for seed in (1, 2):
        weights, config = write_adapter(make_adapter(make_layout(), seed=seed), "float32")
        (tmp_path / "adapter_model.safetensors").write_bytes(weights)
        (tmp_path / "adapter_config.json").write_bytes(config)
        pushed.append(flora("push", "two", str(tmp_path)).split()[-1])
    assert flora("pin", "two", "--version", "1").endswith(f"{pushed[0]}  pinned\n")
    assert flora("rollback", "two").split()[::3] == ["tiny:two@3", pushed[0]]
    assert flora("rollback", "two", "--to", "2").split()[::3] == ["tiny:two@4", pushed[1]]
    assert flora("unpin", "two", "--version", "1").endswith("  not pinned\n")
    assert "tiny:two@4" in flora("prefetch", "two")
    assert [v["version"] for v in json.loads(flora("show", "two"))["versions"]] == [1, 2, 3, 4]
    for words in (
        ["rollback", "two", "--to", "9"],
        ["pin", "two", "--version", "0"],
        ["pin", "no"],
    ):
        code = run("adapters", *words, "--url", url, monkeypatch=monkeypatch)
        assert code in (cli.EXIT_CALLER, 2)


def test_adapters_are_shared_and_unshared(
    url: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def flora(*words: str) -> dict[str, object]:
        assert run("adapters", *words, "--url", url, monkeypatch=monkeypatch) == 0
        told: dict[str, object] = json.loads(capsys.readouterr().out)
        return told

    assert run("adapters", "push", "ours", str(folder), "--url", url, monkeypatch=monkeypatch) == 0
    capsys.readouterr()
    assert flora("share", "ours", "--tenant", "acme")["shared_with"] == ["acme"]
    assert flora("share", "ours", "--public")["public"] is True
    assert flora("unshare", "ours", "--tenant", "acme")["shared_with"] == []
    assert flora("unshare", "ours", "--public")["public"] is False
    for words in (["share", "ours"], ["unshare", "ours", "--public", "--tenant", "acme"]):
        code = run("adapters", *words, "--url", url, monkeypatch=monkeypatch)
        assert code == cli.EXIT_CALLER
        assert "--tenant" in capsys.readouterr().err


def test_a_bad_file_is_the_callers_fault(
    url: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = folder / "x.safetensors"
    bad.write_bytes(b"\x80\x04 pickle")
    push = ("adapters", "push", "mine")
    assert run(*push, str(bad), "--url", url, monkeypatch=monkeypatch) == cli.EXIT_CALLER
    assert "pickle" in capsys.readouterr().err
    assert run(*push, str(folder / "no"), "--url", url, monkeypatch=monkeypatch) == cli.EXIT_CALLER


def test_no_server_is_not_the_callers_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = ("adapters", "list", "--url", "http://127.0.0.1:1")
    assert run(*nowhere, monkeypatch=monkeypatch) == cli.EXIT_SERVICE
    assert "does not answer" in capsys.readouterr().err


def test_an_unknown_benchmark_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("bench", "nonsense", "--json", "x", monkeypatch=monkeypatch) == cli.EXIT_CALLER
    assert "no benchmark 'nonsense'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["--port", "0"], ["--set", "server.prot=1"], ["--set", "x"], ["--engine", "tpu"]]
)
def test_bad_settings_stop_the_start(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("serve", *words, monkeypatch=monkeypatch) == cli.EXIT_CALLER


def test_every_command_has_help() -> None:
    runner = CliRunner()
    for words in (
        [], ["serve"], ["train"], ["import"], ["bench"], ["models", "prepare"],
        ["adapters", "push"], ["adapters", "list"], ["adapters", "show"], ["adapters", "delete"],
        ["adapters", "rollback"], ["adapters", "pin"], ["adapters", "unpin"],
        ["adapters", "prefetch"], ["adapters", "rebuild"], ["adapters", "gc"],
    ):  # fmt: skip
        assert runner.invoke(cli.app, [*words, "--help"]).exit_code == 0


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys, app.cli;"
        "print(sorted({'torch', 'ray', 'transformers', 'pydantic', 'fastapi'} & set(sys.modules)))"
    )
    done = subprocess.check_output([sys.executable, "-c", script], text=True)
    assert done.strip() == "[]"


def test_dotted_names_become_sections() -> None:
    assert cli_options.nested({"a.b": 1, "a.c.d": 2, "e": 3}) == {
        "a": {"b": 1, "c": {"d": 2}},
        "e": 3,
    }
    assert cli_options.pairs(["a.b=c=d"]) == {"a.b": "c=d"}
    with pytest.raises(InvalidRequest):
        cli_options.pairs(["a"])
