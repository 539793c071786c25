"""The wheel: whole, and it runs where there are no sources."""

import os
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from functools import partial
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    "adapter_cache",
    "app",
    "benchmarks",
    "contracts",
    "flora",
    "loadtest",
    "replicas",
    "routing",
)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOT_SHIPPED = (".md", ".svg", ".pyc")
"""Endings of files beside the code that nobody needs to run it."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, as a build leaves its traces among the sources."""
    copy = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("__pycache__", "scratch", "*.pyc")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    build = "import setuptools.build_meta as backend; backend.build_wheel('out')"
    subprocess.run([sys.executable, "-c", build], cwd=copy, check=True, capture_output=True)
    (made,) = (copy / "out").glob("*.whl")
    return Path(made)


def test_no_file_is_left_out(wheel: Path) -> None:
    shipped = set(zipfile.ZipFile(wheel).namelist())
    copy = wheel.parent.parent
    files = {
        path.relative_to(copy).as_posix()
        for package in PACKAGES
        for path in (copy / package).rglob("*")
        if path.is_file() and path.suffix not in NOT_SHIPPED
    }
    assert len(files) > 300
    assert files - shipped == set()
    assert {name.partition("/")[0] for name in shipped if "dist-info" not in name} == set(PACKAGES)


def test_it_runs_where_there_are_no_sources(wheel: Path, tmp_path: Path) -> None:
    """Its dependencies are this environment's: to install them takes longer than a test."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    run = partial(subprocess.run, cwd=tmp_path, env=environment, check=True, capture_output=True)
    venv.create(tmp_path / "own", with_pip=False)
    (site,) = (tmp_path / "own").glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text(next(p for p in sys.path if p.endswith("site-packages")))
    python = tmp_path / "own" / "bin" / "python"
    install = [sys.executable, "-m", "uv", "pip", "install", "--offline", "--no-deps", "--quiet"]
    run([*install, "--python", python, wheel])
    for word, told in (("--version", PROJECT["version"]), ("--help", "simulate")):
        assert told in run([tmp_path / "own" / "bin" / "flora", word], text=True).stdout
    where = run([python, "-c", "import app.cli; print(app.__file__)"], text=True).stdout
    assert Path(where.strip()).is_relative_to(tmp_path)


def test_the_workflow_calls_commands_that_there_are() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    runs = [step["run"] for step in steps if "run" in step]
    makefile = (ROOT / "Makefile").read_text()
    assert {"make check", "make test", "make dist", "make audit"} == set(runs)
    assert all(f"\n{run.removeprefix('make ')}:" in makefile for run in runs)
