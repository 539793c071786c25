"""Where training data lies: one file or dataset an adapter, named after it."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from contracts.errors import InvalidRequest

_DATASET_FILES = ("dataset_info.json", "dataset_dict.json")
_SPLIT = "train"


def find_sources(paths: Sequence[Path]) -> dict[str, Path]:
    """An adapter's name -> its data, in the order given; a folder's files come by name.

    A path is a file of JSON lines, a Parquet file, a folder that `datasets` saved, or a folder of
    any of these. Raises InvalidRequest on a path that is none of them, and on a name that two have.
    """
    found: dict[str, Path] = {}
    for source in (each for path in paths for each in _expand(path)):
        name = source.stem if source.is_file() else source.name
        if name in found:
            raise InvalidRequest(f"{found[name]} and {source} would both be '{name}'", "data")
        found[name] = source
    return found


def is_one(paths: Sequence[Path]) -> bool:
    """Whether the paths are one adapter's data, rather than a folder for any number of them."""
    return len(paths) == 1 and (paths[0].is_file() or is_dataset(paths[0]))


def is_dataset(path: Path) -> bool:
    """Whether `path` needs the package `datasets`: Parquet, or a folder that it saved."""
    return path.suffix == ".parquet" or any((path / name).is_file() for name in _DATASET_FILES)


def read_dataset(path: Path) -> list[Any]:
    """Rows of a local dataset, its split "train" where it has several. Raises InvalidRequest."""
    try:
        # Not a dependency: it brings pandas and pyarrow, and most data is JSON lines.
        datasets = importlib.import_module("datasets")
    except ImportError as error:
        raise InvalidRequest(
            f"{path.name} is read by the package 'datasets', which is not installed:"
            " pip install datasets, or give JSON lines",
            "data",
        ) from error
    try:
        if path.is_file():
            loaded = datasets.load_dataset("parquet", data_files=str(path), split=_SPLIT)
        else:
            loaded = datasets.load_from_disk(str(path))
    except Exception as error:  # the package has no one base class for what it raises
        raise InvalidRequest(f"{path.name} cannot be read: {error}", "data") from error
    if isinstance(loaded, dict):
        if _SPLIT not in loaded:
            splits = ", ".join(map(str, loaded))
            raise InvalidRequest(f"{path.name} has no split '{_SPLIT}', but {splits}", "data")
        loaded = loaded[_SPLIT]
    return list(loaded)


def _expand(path: Path) -> list[Path]:
    if not path.exists():
        raise InvalidRequest(f"{path} does not exist", "data")
    if path.is_file() or is_dataset(path):
        return [path]
    inside = sorted(
        each
        for each in path.iterdir()
        if each.suffix == ".jsonl" or (is_dataset(each) and not each.name.startswith("."))
    )
    if not inside:
        raise InvalidRequest(f"{path} holds no .jsonl or .parquet file and no dataset", "data")
    return inside
