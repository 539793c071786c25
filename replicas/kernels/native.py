"""Builds and loads the CPU kernels (`scale.cpp`, `lora.cpp`). Knows no model and no adapter."""

import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch

logger = logging.getLogger(__name__)

_FOLDER = Path(__file__).parent
# -fopenmp turns at::parallel_for parallel; the library is the one that torch has loaded already.
_FLAGS = ("-std=c++20", "-O3", "-march=native", "-fopenmp", "-fPIC", "-shared")


@cache
def load_native() -> bool:
    """Make fLoRA's `torch.ops.flora.*` available; compiles once per machine, torch and source.

    That takes 10 s. False, with a warning, where there is no C++ compiler or it fails: plain tensor
    code serves.
    """
    is_there = _load(_FOLDER / "scale.cpp")
    if is_there:
        _register_shapes()
    return is_there


@cache
def load_native_lora() -> bool:
    """The same for LoRA's operator, which only engines with LoRA slots need."""
    return _load(_FOLDER / "lora.cpp")


def _load(source: Path) -> bool:
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        logger.warning("no C++ compiler (%s): fLoRA runs on plain tensor code, slower", compiler)
        return False
    library = _library_path(compiler, source)
    try:
        if not library.exists():
            _build(compiler, source, library)
    except subprocess.CalledProcessError as error:
        logger.warning(
            "the fLoRA kernel does not compile, plain tensor code serves: %s", error.stderr
        )
        return False
    torch.ops.load_library(library)  # type: ignore[no-untyped-call]
    return True


def _build(compiler: str, source: Path, library: Path) -> None:
    """Compile beside the target, then rename: other processes see a whole library or none."""
    from torch.utils.cpp_extension import include_paths, library_paths

    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        built = Path(folder) / library.name
        command = [compiler, *_FLAGS, str(source), "-o", str(built)]
        command += [f"-isystem{path}" for path in include_paths()]
        command += [f"-L{path}" for path in library_paths()]
        subprocess.run(
            [*command, "-ltorch_cpu", "-lc10"], check=True, capture_output=True, text=True
        )
        built.replace(library)


def _library_path(compiler: str, source: Path) -> Path:
    """A file of its own for every source, compiler, flag, torch version and kind of processor."""
    processor = "".join(
        sorted({line for line in _cpuinfo() if line.startswith(("flags", "Features"))})
    )
    parts = (source.read_text(), compiler, repr(_FLAGS), torch.__version__, processor)
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "flora-serve" / "kernels" / digest / f"flora_{source.stem}.so"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def _register_shapes() -> None:
    """Tell torch.compile the result's shape, so that the ops stay in one graph."""

    @torch.library.register_fake("flora::scale_in")
    def _(x: torch.Tensor, slab: torch.Tensor, slots: torch.Tensor, offset: int) -> torch.Tensor:
        return torch.empty_like(x, memory_format=torch.contiguous_format)

    @torch.library.register_fake("flora::linear")
    def _(x: torch.Tensor, layer: int, out_features: int) -> torch.Tensor:
        return x.new_empty(x.shape[0], out_features)

    @torch.library.register_fake("flora::scale_out")
    def _(
        y: torch.Tensor,
        x: torch.Tensor,
        slab: torch.Tensor,
        slots: torch.Tensor,
        bias: torch.Tensor | None,
        extra_rows: torch.Tensor,
        offset: int,
        is_bounded: bool,
        state: int,
        group: int,
    ) -> None:
        return None


if __name__ == "__main__":
    print("native kernel ready" if load_native() else "no C++ compiler: plain tensor code serves")
