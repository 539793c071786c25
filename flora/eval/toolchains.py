"""What compiles and runs a program of each language. Runs nothing itself."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass

Find = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Toolchain:
    """`command` is a shell command on `file_name`; all of `programs` are needed for it.

    `needs_silence`: output on standard error is a failure, whatever the exit status says. The
    shell command `probe` fails where a library of the tests is missing.
    """

    language: str
    file_name: str
    programs: tuple[str, ...]
    command: str
    needs_silence: bool = False
    probe: str = "true"


TOOLCHAINS = {
    "pl": (
        Toolchain("Perl", "main.pl", ("perl",), "perl main.pl", probe="perl -MTest::Deep -e 1"),
    ),
    "rb": (
        Toolchain(
            "Ruby", "main.rb", ("ruby",), "ruby main.rb", probe="ruby -rtest/unit/version -e 1"
        ),
    ),
    "lua": (
        Toolchain(
            "Lua", "main.lua", ("lua5.4",), "lua5.4 main.lua", probe="lua5.4 -l luaunit -e ''"
        ),
    ),
    "d": (
        Toolchain("D", "main.d", ("ldc2",), "ldc2 -unittest -of=main main.d && ./main"),
        Toolchain("D", "main.d", ("gdc",), "gdc -funittest -o main main.d && ./main"),
    ),
    "rs": (
        Toolchain("Rust", "main.rs", ("rustc",), "rustc -A warnings -o main main.rs && ./main"),
    ),
    "rkt": (
        Toolchain("Racket", "main.rkt", ("racket",), "racket main.rkt", True, "racket -l rackunit"),
    ),
    "php": (Toolchain("PHP", "main.php", ("php",), "php main.php"),),
    "js": (Toolchain("JavaScript", "main.js", ("node",), "node main.js"),),
    "sh": (Toolchain("Bash", "main.sh", ("bash",), "bash main.sh"),),
    "py": (Toolchain("Python", "main.py", ("python3",), "python3 main.py"),),
}
"""By the file extension that MultiPL-E uses; of several the first that is installed is taken."""


def system_program(name: str) -> str | None:
    """A program where a sandbox has it: among the system's."""
    return shutil.which(name, path="/usr/local/bin:/usr/bin:/bin")


def find_toolchain(language: str, find: Find = system_program) -> Toolchain | None:
    """The toolchain of a language that is installed, if one is."""
    for toolchain in TOOLCHAINS[language]:
        if all(find(program) for program in toolchain.programs):
            return toolchain
    return None
