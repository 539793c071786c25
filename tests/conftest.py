"""`pytest --hypothesis-profile=fuzz tests/...` tries far more of what the property tests try.

`pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder` runs two files at a time.
"""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer  # type: ignore[import-untyped]
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole servers first: they are what takes long, and nobody is to wait for the last one."""
    items.sort(key=lambda item: item.get_closest_marker("ray") is None)


def pytest_configure(config: pytest.Config) -> None:
    """Engines that are tested side by side have processors of their own: they do not share well."""
    worker = getattr(config, "workerinput", None)
    if worker is not None and config.option.markexpr == "vllm":
        number = int(worker["workerid"].removeprefix("gw"))
        cpus = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cpus[number :: worker["workercount"]] or cpus)
