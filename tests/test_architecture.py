"""House rules that no linter knows: vendors at the edges, budgets, a noun a file, a true tree."""

import ast
import re
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("contracts", "flora", "adapter_cache", "routing", "replicas", "app")
TOP_LEVEL = (*PACKAGES, "benchmarks", "docs", "k8s", "loadtest")
SOURCES = sorted(path for name in TOP_LEVEL for path in (ROOT / name).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

EDGES = {
    "ray": "ray_",
    "vllm": "vllm_",
    "redis": "redis_",
    "fsspec": "fsspec_",
    "fastapi": "http_",
    "starlette": "http_",
    "uvicorn": "http_",
    "grpc": "grpc_",
    "opentelemetry": "otel_",
    "locust": "locust",
}
"""Vendor package -> how the name of every file that imports it begins."""

LAZY_IMPORTS = {
    ("app/local.py", "ray"): "starts and stops the Ray runtime around the application",
    ("loadtest/__main__.py", "locust"): "replaces sockets when it is imported, so only to run it",
}
"""Files that may import a vendor inside a function, and why."""

MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 50
LONG_FILES: dict[str, str] = {}
"""Path -> why this file may be longer."""
LONG_FUNCTIONS: dict[str, str] = {
    "benchmarks/record.py:write_record": "one keyword argument a field of the record",
}
"""Path:function -> why this function may be longer."""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(node: ast.AST) -> Iterator[str]:
    """Top-level names of everything that is imported in or below `node`."""
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            yield from (alias.name.split(".")[0] for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module:
            yield child.module.split(".")[0]


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def lazy_imports(tree: ast.AST) -> set[str]:
    return {name for function in functions(tree) for name in imports(function)}


def misplaced_vendors(path: Path, tree: ast.Module) -> set[str]:
    """Vendors that `path` imports although neither its name nor the allow-list says so."""
    vendors = {
        vendor
        for vendor in imports(tree)
        if vendor in EDGES and not path.name.startswith(EDGES[vendor])
    }
    lazy = {vendor for file, vendor in LAZY_IMPORTS if file == name_of(path)}
    eager = {name for node in tree.body for name in imports(node)} - lazy_imports(tree)
    return vendors - (lazy - eager)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_vendor_is_imported_only_where_the_file_name_says_so(path: Path) -> None:
    assert not misplaced_vendors(path, ast.parse(path.read_text()))


@pytest.mark.parametrize(
    ("file", "source", "found"),
    [
        ("app/dispatcher.py", "import ray", {"ray"}),
        ("app/dispatcher.py", "def f():\n    from ray import serve", {"ray"}),
        ("app/ray_app.py", "from ray import serve", set()),
        ("app/local.py", "def f():\n    import ray", set()),
        ("app/local.py", "import ray", {"ray"}),
        ("replicas/vllm_engine.py", "import redis.asyncio", {"redis"}),
    ],
)
def test_the_vendor_rule_itself(file: str, source: str, found: set[str]) -> None:
    assert misplaced_vendors(ROOT / file, ast.parse(source)) == found


def test_contracts_need_the_standard_library_alone() -> None:
    allowed = {*sys.stdlib_module_names, "contracts"}
    for path in (ROOT / "contracts").rglob("*.py"):
        assert set(imports(ast.parse(path.read_text()))) <= allowed, name_of(path)


@pytest.mark.parametrize("path", [p for p in SOURCES if p.parts[-2] != "tests"], ids=name_of)
def test_nothing_imports_the_tests(path: Path) -> None:
    assert "tests" not in set(imports(ast.parse(path.read_text())))


@pytest.mark.parametrize("path", SOURCES + TESTS, ids=name_of)
def test_files_and_functions_keep_their_budget(path: Path) -> None:
    text = path.read_text()
    if name_of(path) not in LONG_FILES:
        assert len(text.splitlines()) <= MAX_FILE_LINES
    for function in functions(ast.parse(text)):
        if f"{name_of(path)}:{function.name}" not in LONG_FUNCTIONS:
            lines = (function.end_lineno or 0) - function.lineno + 1
            assert lines <= MAX_FUNCTION_LINES, f"{function.name} has {lines} lines"


def test_allow_lists_name_what_exists() -> None:
    files = {name_of(path) for path in SOURCES + TESTS}
    assert set(LONG_FILES) <= files
    assert {entry.partition(":")[0] for entry in LONG_FUNCTIONS} <= files


def test_no_file_is_a_drawer() -> None:
    drawers = {"utils.py", "util.py", "helpers.py", "common.py", "misc.py"}
    assert not [name_of(path) for path in SOURCES + TESTS if path.name in drawers]


@pytest.mark.parametrize("package", PACKAGES)
def test_package_says_its_purpose_and_ships_its_types(package: str) -> None:
    assert ast.get_docstring(ast.parse((ROOT / package / "__init__.py").read_text()))
    assert (ROOT / package / "py.typed").exists()


def test_the_tree_is_as_the_readme_draws_it() -> None:
    drawn = re.findall(r"^([a-z0-9_]+)/ +\S", (ROOT / "README.md").read_text(), re.MULTILINE)
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines()]
    found = {
        path.name
        for path in ROOT.iterdir()
        if path.is_dir()
        and not path.name.startswith(".")
        and not any(fnmatch(path.name, pattern) for pattern in ignored)
        and any(file.is_file() and file.suffix != ".pyc" for file in path.rglob("*"))
    }
    assert sorted(drawn) == sorted(found)


def test_tests_mirror_the_sources() -> None:
    """tests/<package>/test_<file>.py tests <package>/<file>.py, or a behaviour of that package."""
    folders = {path.relative_to(ROOT / "tests").parts[0] for path in TESTS}
    packages = {name for name in folders if not name.endswith(".py")}
    assert packages <= {*TOP_LEVEL, "end_to_end", "fixtures"}


def test_comments_leave_nothing_to_do() -> None:
    marker = re.compile(r"#.*\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")
    found = [name_of(path) for path in SOURCES + TESTS if marker.search(path.read_text())]
    assert not found
