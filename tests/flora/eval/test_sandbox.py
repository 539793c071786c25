"""Hostile programs in the sandbox; where the machine has no namespaces, its refusal."""

import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from contracts.errors import InvalidRequest
from flora.eval import sandbox as sandbox_module
from flora.eval.sandbox import Sandbox
from flora.eval.watched_process import Limits, Run
from tests.flora.eval import hostile_programs as hostile

LIMITS = Limits(wall_s=1.5, cpu_s=5, memory_bytes=256 << 20, max_disk_bytes=8 << 20)
PATIENT = replace(LIMITS, wall_s=20)
"""Time enough to take too much of something else."""

ISOLATED = Sandbox("namespaces", LIMITS)
LIMITED = Sandbox("limits", LIMITS)


def has_namespaces() -> bool:
    try:
        ISOLATED.require()
    except InvalidRequest:
        return False
    return True


HAS_NAMESPACES = has_namespaces()


def run(command: str, sandbox: Sandbox = ISOLATED) -> Run | None:
    """None where this machine cannot isolate a program, and says so."""
    if sandbox.isolation == "namespaces" and not HAS_NAMESPACES:
        with pytest.raises(InvalidRequest, match="cannot be isolated on this machine"):
            sandbox.require()
        return None
    return sandbox.run(command, "main.sh", "sh main.sh")


@pytest.fixture
def port() -> Iterator[int]:
    """Somebody listens there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("sandbox", [ISOLATED, LIMITED], ids=["namespaces", "limits"])
@pytest.mark.parametrize(
    ("command", "ends", "limits"),
    [
        (hostile.LOOP, {"time"}, LIMITS),
        (hostile.EATER, {"exit", "memory"}, PATIENT),
        (hostile.PATIENT_EATER, {"memory"}, PATIENT),
        (hostile.TALKER, {"output"}, PATIENT),
        ("exec >&-; exec 2>&-; sleep 60", {"time"}, LIMITS),
    ],
    ids=["loop", "eater", "patient-eater", "talker", "silent"],
)
def test_what_takes_too_much_is_ended(
    command: str, ends: set[str], limits: Limits, sandbox: Sandbox
) -> None:
    found = run(command, replace(sandbox, limits=limits))
    if found is not None:
        assert found.end in ends
        assert found.exit_code != 0
        assert found.wall_s < limits.wall_s + 5
        assert len(found.stdout) <= LIMITS.max_output_bytes


@pytest.mark.parametrize("command", [hostile.FORK_BOMB, hostile.SILENT_FORK_BOMB])
def test_a_fork_bomb_stays_small_and_leaves_nothing(command: str) -> None:
    before = {process.pid for process in psutil.process_iter()}
    found = run(command)
    if found is not None:
        assert found.wall_s < LIMITS.wall_s + 5
        started = [p for p in psutil.process_iter(["name"]) if p.pid not in before]
        perls = [p for p in started if p.info["name"] == "perl"]
        assert not [p for p in perls if p.is_running() and p.status() != "zombie"]


def is_asleep(time_s: str) -> bool:
    commands = [process.info["cmdline"] for process in psutil.process_iter(["cmdline"])]
    return ["sleep", time_s] in commands


def test_what_a_program_leaves_running_is_ended() -> None:
    for sandbox in (ISOLATED, LIMITED):
        found = run("sleep 61.5 & exit 0", sandbox)
        if found is not None:
            assert (found.end, found.exit_code) == ("exit", 0)
            deadline_s = time.monotonic() + 5
            while is_asleep("61.5") and time.monotonic() < deadline_s:
                time.sleep(0.01)  # its end has been asked for and comes soon
            assert not is_asleep("61.5")


def test_nothing_can_be_written_outside(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    target = tmp_path / "stolen"
    found = run(hostile.WRITER.replace("$OUTSIDE", str(target)))
    if found is not None:
        assert found.exit_code != 0
    assert not target.exists()
    assert not Path("/usr/mine").exists()


@pytest.mark.parametrize("command", [hostile.DISK_FILLER, hostile.FILE_MAKER, hostile.MOUNTER])
def test_disks_files_and_privileges_are_bounded(command: str) -> None:
    found = run(command)
    if found is not None:
        assert found.exit_code != 0


def test_nobody_can_be_called(port: int) -> None:
    connect = hostile.CALLER.replace("$ENV{PORT} || {port}", str(port))
    reached = run(connect, LIMITED)
    assert reached is not None
    assert reached.exit_code == 0, reached.stderr
    found = run(connect)
    if found is not None:
        assert found.exit_code == 7


def test_secrets_stay_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLORA_API_KEY", "not-to-be-seen")
    limited = run("env", LIMITED)
    assert limited is not None
    assert b"not-to-be-seen" not in limited.stdout
    found = run(hostile.SPY)
    if found is not None:
        assert b"not-to-be-seen" not in found.stdout
        listed = set(found.stdout.decode().split())
        assert {"root", "home", "var", "work", "run", "sys"}.isdisjoint(listed)
        assert b"root:" not in found.stdout


def test_programs_run_with_an_empty_folder_and_no_input() -> None:
    for sandbox in (ISOLATED, LIMITED):
        found = run("ls; cat; echo to-err >&2; exit 3", sandbox)
        if found is not None:
            assert (found.end, found.exit_code) == ("exit", 3)
            assert found.stdout.split() == [b"main.sh"]
            assert found.stderr == b"to-err\n"


def test_output_of_an_ended_program_is_whole() -> None:
    found = run("head -c 50000 /dev/zero", LIMITED)
    assert found is not None
    assert len(found.stdout) == 50_000
    small = Sandbox("limits", replace(LIMITS, max_output_bytes=10))
    cut = run("echo 0123456789abcdef", small)
    assert cut is not None
    assert (cut.end, cut.exit_code, cut.stdout) == ("output", -1, b"0123456789")


def test_without_unshare_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox_module, "_UNSHARE", ("false",))
    with pytest.raises(InvalidRequest, match="--no-sandbox runs them without"):
        ISOLATED.require()
    monkeypatch.setattr(sandbox_module, "_UNSHARE", ("no-such-program",))
    with pytest.raises(InvalidRequest, match="no-such-program"):
        ISOLATED.require()
    LIMITED.require()
