"""From an adapter that somebody has to fLoRA files that a server takes. Exact, or refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from contracts.errors import InvalidAdapter
from flora.adapter_config import AdapterLimits, show
from flora.adapter_files import AdapterFiles, write_adapter
from flora.base_model import fingerprint
from flora.importers.base_modules import BaseModules
from flora.importers.hira import HIRA
from flora.importers.ia3 import IA3
from flora.importers.other_flora import FLORA
from flora.importers.refusals import check_extras, refuse_method
from flora.importers.scales import Method, Parts, to_files
from flora.importers.source import CONFIG_FILE, WEIGHTS_FILE, Shape, Source
from flora.row import Floats

METHODS: Mapping[str, Method] = {"IA3": IA3, "HIRA": HIRA, "FLORA": FLORA}
"""By PEFT's `peft_type`."""


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What was imported: the method, the modules that it scales, and fLoRA's rank for it."""

    method: str
    num_modules: int
    rank: int
    num_bytes: int


def import_adapter(
    source: Source, base: BaseModules, base_model: str, base_fingerprint: str, limits: AdapterLimits
) -> AdapterFiles:
    """The same change of the base model, as a fLoRA adapter. Every name is checked before numbers.

    Raises InvalidAdapter, naming what has no such form, and AdapterTooLarge.
    """
    method = method_of(source)
    check_extras(source.config)
    places = {name: _place(method, name, shape) for name, shape in source.shapes.items()}
    modules = {module: base.resolve(module) for module, _ in places.values()}
    named = {name: (modules[module], part) for name, (module, part) in places.items()}
    if len(set(named.values())) != len(named):
        raise InvalidAdapter("two tensors are meant for one module: the file holds two adapters")
    scales = method.to_scales(_parts(named, source.read()), source.config, base)
    return to_files(scales, base_model, base_fingerprint, limits)


def import_folder(
    source: Source, model_dir: Path, out_dir: Path, dtype: str, limits: AdapterLimits
) -> ImportReport:
    """Imports for the base model in `model_dir` and writes a folder to publish."""
    base = BaseModules.read(model_dir)
    files = import_adapter(source, base, model_dir.name, fingerprint(model_dir), limits)
    weights, config_json = write_adapter(files, dtype)
    out_dir.mkdir(parents=True, exist_ok=True)
    (out_dir / WEIGHTS_FILE).write_bytes(weights)
    (out_dir / CONFIG_FILE).write_bytes(config_json)
    modules = {name.rpartition(".")[0] for name in files.tensors}
    return ImportReport(method_of(source).title, len(modules), files.config.rank, len(weights))


def method_of(source: Source) -> Method:
    """Raises InvalidAdapter, with the reason, on a method that is not of fLoRA's form."""
    kind = source.config.get("peft_type")
    if not isinstance(kind, str) or kind not in METHODS:
        raise refuse_method(source.config)
    return METHODS[kind]


def _place(method: Method, name: str, shape: Shape) -> tuple[str, str]:
    match = method.name.fullmatch(name)
    if "embedding" in name:
        raise InvalidAdapter(f"tensor {show(name)}: fLoRA adapts linear layers, no embeddings")
    if match is None:
        raise InvalidAdapter(f"tensor {show(name)} is none of a {method.title} adapter's")
    if len(shape) > 2:
        raise InvalidAdapter(f"tensor {show(name)}: fLoRA adapts linear layers, no convolutions")
    return match["module"], match["part"]


def _parts(named: Mapping[str, tuple[str, str]], tensors: Mapping[str, Floats]) -> Parts:
    parts: dict[str, dict[str, Floats]] = {}
    for name, (module, part) in named.items():
        parts.setdefault(module, {})[part] = tensors[name]
    return parts
