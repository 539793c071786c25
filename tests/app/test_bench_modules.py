"""What `flora bench` may run."""

from pathlib import Path

import pytest

from app import bench_modules
from app.bench_modules import find_bench_modules


def test_modules_that_can_be_run_are_found_and_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "made_up_benchmarks"
    package.mkdir()
    main = 'if __name__ == "__main__":\n    raise RuntimeError\nraise RuntimeError\n'
    for name, text in (("__init__", ""), ("bench_a", main), ("b", main), ("helper", "")):
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(bench_modules, "_PACKAGE", "made_up_benchmarks")
    assert find_bench_modules() == {
        "a": "made_up_benchmarks.bench_a",
        "b": "made_up_benchmarks.b",
    }
