"""Nothing that was started stays behind."""

import subprocess
import sys
import time

import psutil  # type: ignore[import-untyped]

from app.processes import run_within

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True);"
    "time.sleep(60)"
)
SCRIPT = f"""
import subprocess, sys
from app.processes import adopt_orphans, child_ids, end_descendants
adopt_orphans()
kept = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
keep = child_ids()
spawn = (
    "import subprocess, sys; words = [sys.executable, '-c', sys.argv[1]];"
    "subprocess.Popen(words, stdout=subprocess.PIPE).stdout.readline()"
)
subprocess.run([sys.executable, "-c", spawn, {STUBBORN!r}])
child = subprocess.Popen([sys.executable, "-c", {STUBBORN!r}], stdout=subprocess.PIPE)
child.stdout.readline()
before = len(child_ids())
killed = end_descendants(4.0, keep=keep)
print(before, killed, len(child_ids()), kept.poll())
kept.kill()
kept.wait()
"""


def test_orphans_and_stubborn_children_end_and_the_kept_one_stays() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout.split()[-4:] == ["3", "2", "1", "None"], done.stdout + done.stderr


def test_work_has_a_bound() -> None:
    began_s = time.monotonic()
    assert run_within(5.0, lambda: None)
    assert not run_within(0.05, lambda: time.sleep(0.5))
    assert time.monotonic() - began_s < 2
    assert psutil.Process().is_running()
