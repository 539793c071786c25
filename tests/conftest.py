"""`pytest --hypothesis-profile=fuzz tests/...` tries far more of what the property tests try.

`pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder` runs two files at a time.

Tests of what a machine lacks, a CUDA device or a browser, are left out, and the header says so.
"""

import os
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer  # type: ignore[import-untyped]
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

from tests.end_to_end.installed_browser import NAMES, find_browser

# A slow machine is no failure: speed has benchmarks.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")
settings.register_profile(
    "fuzz", max_examples=5000, deadline=None, suppress_health_check=list(HealthCheck)
)


class ServerScheduling(LoadFileScheduling):
    """A file is tested by one process, and so is a package: its files share a server."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        package = Path(file).parent
        is_package = (self.config.rootpath / package / "__init__.py").exists()
        return str(package) if is_package else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling | None:
    """What `--dist loadfile` means here."""
    return ServerScheduling(config, log) if config.option.dist == "loadfile" else None


@cache
def has_cuda() -> bool:
    """Asks the driver's library alone: a process that has begun with CUDA cannot fork engines."""
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    import torch

    return torch.cuda.is_available()


def absent() -> dict[str, str]:
    """The marks of tests that cannot run on this machine, and why."""
    reasons = {}
    if not has_cuda():
        reasons["cuda"] = "no device"
    if find_browser() is None:
        reasons["browser"] = f"none of {', '.join(NAMES)} is here (make browser)"
    return reasons


def pytest_report_header() -> list[str]:
    """What decides which tests there are."""
    return [f"left out: tests marked '{mark}', {why}" for mark, why in absent().items()]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Whole servers first: they are what takes long, and nobody is to wait for the last one."""
    items.sort(key=lambda item: item.get_closest_marker("ray") is None)
    marks = absent()
    left_out = [item for item in items if any(map(item.get_closest_marker, marks))]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_configure(config: pytest.Config) -> None:
    """Engines that are tested side by side have processors of their own: they do not share well."""
    worker = getattr(config, "workerinput", None)
    if worker is not None and config.option.markexpr == "vllm":
        number = int(worker["workerid"].removeprefix("gw"))
        cpus = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cpus[number :: worker["workercount"]] or cpus)
