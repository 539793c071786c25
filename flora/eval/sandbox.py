"""Runs programs that nobody has read: no network, no files but its own, bounded in everything.

Linux namespaces by util-linux's `unshare`, which needs no root and no daemon; resource limits for
what one process takes, a watch over all of its processes for what they take together. Knows no
language and no model.
"""

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from contracts.errors import InvalidRequest
from flora.eval.watched_process import Limits, Run, watch

SETUP_SCRIPT = Path(__file__).with_name("sandbox_setup.sh")
_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/tmp",
    "TMPDIR": "/tmp",
    "LANG": "C.UTF-8",
}
_NOBODY = 65534
_PROBE = "test ! -w /usr && test ! -e /home && test ! -e /root && test $$ -lt 100"

DEFAULT_LIMITS = Limits()

Isolation = Literal["namespaces", "limits"]


@dataclass(frozen=True, slots=True)
class Sandbox:
    """`limits` alone bounds time, memory, processes and output, and hides the environment.

    It keeps no program from reading files or using the network: only for programs that you trust.
    """

    isolation: Isolation = "namespaces"
    limits: Limits = DEFAULT_LIMITS

    def run(self, source: str, file_name: str, command: str) -> Run:
        """Runs shell `command` in an empty folder that holds `source` as `file_name`."""
        is_guarded = self.isolation == "namespaces"
        # Root is exempt from the limit on processes, and owns what is not to be touched.
        user = _NOBODY if is_guarded and os.geteuid() == 0 else None
        with tempfile.TemporaryFile() as stdin, tempfile.TemporaryDirectory() as folder:
            stdin.write(source.encode(errors="replace"))
            stdin.seek(0)
            process = subprocess.Popen(
                [*self._shell(), file_name, command, *self._numbers()],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_ENVIRONMENT if is_guarded else _ENVIRONMENT | {"HOME": folder},
                cwd="/" if is_guarded else folder,
                start_new_session=True,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
            )
            return watch(process, self.limits)

    def require(self) -> None:
        """Raises InvalidRequest where this machine cannot isolate a program."""
        if self.isolation == "limits":
            return
        try:
            run = self.run("", "probe", _PROBE)
            reason = run.stderr.decode(errors="replace").strip() or "the probe could see too much"
        except OSError as error:
            run, reason = None, str(error)
        if run is None or run.exit_code != 0:
            raise InvalidRequest(
                f"programs cannot be isolated on this machine ({reason}): user namespaces and"
                " util-linux's unshare are needed. --no-sandbox runs them without isolation"
            )

    def _shell(self) -> list[str]:
        if self.isolation == "limits":
            return ["/bin/sh", "-eu", "-c", _PLAIN_SCRIPT, "sh"]
        return [*_UNSHARE, "/bin/sh", "-eu", "-c", SETUP_SCRIPT.read_text(), "sh"]

    def _numbers(self) -> list[str]:
        limits = self.limits
        numbers = (
            limits.cpu_s,
            limits.memory_bytes // 1024,
            limits.max_file_bytes // 512,
            limits.max_processes,
            limits.max_disk_bytes,
        )
        return [str(int(number)) for number in numbers]


_UNSHARE = (
    *("unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child"),
    *("--net", "--ipc", "--uts"),
)

_PLAIN_SCRIPT = """
file=$1; command=$2; ulimit -t "$3"; ulimit -d "$4"; ulimit -f "$5"; ulimit -c 0
cat > "$file"; exec /bin/sh -c "$command" < /dev/null
"""
