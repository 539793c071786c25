"""Builds and loads the CPU kernel (`scale.cpp`). Knows no model and no adapter."""

import hashlib
import logging
import os
import shutil
from functools import cache
from pathlib import Path

import torch

logger = logging.getLogger(__name__)

_SOURCE = Path(__file__).with_name("scale.cpp")
_FLAGS = ("-O3", "-march=native")


@cache
def load_native() -> bool:
    """Make `torch.ops.flora.*` available; compiles once per machine, torch and source (10 s).

    False, with a warning, where there is no C++ compiler: then the plain tensor code serves.
    """
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        logger.warning("no C++ compiler (%s): fLoRA runs on plain tensor code, slower", compiler)
        return False
    from torch.utils.cpp_extension import load

    directory = _build_dir()
    directory.mkdir(parents=True, exist_ok=True)
    load(
        name="flora_scale",
        sources=[str(_SOURCE)],
        extra_cflags=list(_FLAGS),
        build_directory=str(directory),
        is_python_module=False,
    )
    _register_shapes()
    return True


def _build_dir() -> Path:
    """One folder for each source and its place, compiler flags, torch version and processor."""
    processor = "".join(
        sorted({line for line in _cpuinfo() if line.startswith(("flags", "Features"))})
    )
    parts = (str(_SOURCE), _SOURCE.read_text(), repr(_FLAGS), torch.__version__, processor)
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "flora-serve" / "kernels" / digest


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def _register_shapes() -> None:
    """Tell torch.compile the result's shape, so that the ops stay in one graph."""

    @torch.library.register_fake("flora::scale_in")
    def _(x: torch.Tensor, slab: torch.Tensor, slots: torch.Tensor, offset: int) -> torch.Tensor:
        return torch.empty_like(x, memory_format=torch.contiguous_format)

    @torch.library.register_fake("flora::scale_out")
    def _(
        y: torch.Tensor,
        x: torch.Tensor,
        slab: torch.Tensor,
        slots: torch.Tensor,
        bias: torch.Tensor | None,
        extra_rows: torch.Tensor,
        offset: int,
        state: int,
        group: int,
    ) -> None:
        return None


if __name__ == "__main__":
    print("native kernel ready" if load_native() else "no C++ compiler: plain tensor code serves")
