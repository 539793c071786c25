"""Which benchmarks there are. Imports none of them."""

from importlib.util import find_spec
from pathlib import Path

_PACKAGE = "benchmarks"
_PREFIX = "bench_"
_MAIN = '__name__ == "__main__"'


def find_bench_modules() -> dict[str, str]:
    """Name on the command line -> module, for each module that can be run."""
    spec = find_spec(_PACKAGE)
    roots = (spec.submodule_search_locations or ()) if spec else ()
    files = [path for root in roots for path in sorted(Path(root).glob("*.py"))]
    return {
        path.stem.removeprefix(_PREFIX).replace("_", "-"): f"{_PACKAGE}.{path.stem}"
        for path in files
        if _MAIN in path.read_text(encoding="utf-8")
    }
