"""A child process and all of its own, watched until it ends or takes too much. Knows no sandbox."""

import os
import selectors
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Literal

import psutil  # type: ignore[import-untyped]

End = Literal["exit", "time", "memory", "output"]
"""Why a process is over: by itself, or what it took too much of."""

_WAIT_S = 0.02
_LOOK_S = 0.1
"""Between two looks at the memory, which means a look at every process of the machine."""

_CHUNK_BYTES = 1 << 16
_GONE_S = 5.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may take. `memory_bytes` bounds each process, and all of them together.

    `max_disk_bytes` is for all files, `max_file_bytes` for one.
    """

    wall_s: float = 15.0
    cpu_s: float = 15.0
    memory_bytes: int = 2 << 30
    max_processes: int = 64
    max_file_bytes: int = 64 << 20
    max_disk_bytes: int = 256 << 20
    max_output_bytes: int = 1 << 20


@dataclass(frozen=True, slots=True)
class Run:
    """What became of it. `exit_code` is -1 unless it ended by itself; outputs are cut."""

    end: End
    exit_code: int
    stdout: bytes
    stderr: bytes
    wall_s: float


def watch(process: subprocess.Popen[bytes], limits: Limits) -> Run:
    """Waits for `process`, a session leader with both outputs piped; ends whatever is left of it.

    Nothing that it leaves running keeps this waiting.
    """
    began_s = time.monotonic()
    assert process.stdout is not None
    assert process.stderr is not None
    found: dict[IO[bytes], bytearray] = {process.stdout: bytearray(), process.stderr: bytearray()}
    end: End = "exit"
    with process, selectors.DefaultSelector() as selector:
        for pipe in found:
            os.set_blocking(pipe.fileno(), False)
            selector.register(pipe, selectors.EVENT_READ)
        try:
            look_s = began_s
            while process.poll() is None and end == "exit":
                _read(selector, found, _WAIT_S)
                end = _excess(found, time.monotonic() - began_s, limits)
                if end == "exit" and time.monotonic() >= look_s:
                    end = "memory" if _resident_bytes(process.pid) > limits.memory_bytes else end
                    look_s = time.monotonic() + _LOOK_S
            _read(selector, found, 0)
        finally:
            kill(process)
    if end == "exit" and _num_bytes(found) > limits.max_output_bytes:
        end = "output"
    exit_code = process.returncode if end == "exit" else -1
    out, err = (bytes(output[: limits.max_output_bytes]) for output in found.values())
    return Run(end, exit_code, out, err, time.monotonic() - began_s)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Ends the process, all that descend from it, and its session's group."""
    try:
        descendants = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        descendants = []
    for descendant in descendants:
        with suppress(psutil.NoSuchProcess):
            descendant.kill()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    # The first process of a namespace is gone only after all others in it.
    deadline_s = time.monotonic() + _GONE_S
    while any(map(_is_running, descendants)) and time.monotonic() < deadline_s:
        time.sleep(_WAIT_S / 4)


def _excess(found: dict[IO[bytes], bytearray], wall_s: float, limits: Limits) -> End:
    if wall_s > limits.wall_s:
        return "time"
    return "output" if _num_bytes(found) > limits.max_output_bytes else "exit"


def _read(
    selector: selectors.BaseSelector, found: dict[IO[bytes], bytearray], wait_s: float
) -> None:
    if not selector.get_map():
        time.sleep(wait_s)
    for key, _ in selector.select(wait_s) if selector.get_map() else ():
        chunk = os.read(key.fd, _CHUNK_BYTES)
        found[key.fileobj] += chunk  # type: ignore[index]
        if not chunk:
            selector.unregister(key.fileobj)


def _is_running(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _num_bytes(found: dict[IO[bytes], bytearray]) -> int:
    return sum(map(len, found.values()))


def _resident_bytes(pid: int) -> int:
    """Of the process and its descendants; shared memory is counted for each."""
    total = 0
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for member in family:
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total
