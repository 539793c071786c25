"""Files from anywhere: limits and kinds are checked before anything is read."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from contracts.errors import AdapterTooLarge, InvalidAdapter
from flora.adapter_config import AdapterLimits
from flora.importers.base_modules import BaseModules, LinearSize
from flora.importers.importer import import_adapter
from flora.importers.source import Source, field
from tests.flora.adapters import LIMITS
from tests.flora.hostile_files import configs, weights

NAME = "base_model.model.up.ia3_l"
# The modules of the good file that hostile ones are made from, and one more.
SIZES = {"qkv.0": (8, 8), "qkv.1": (8, 4), "qkv.2": (8, 4), "up": (4, 8)}
BASE = BaseModules({name: LinearSize(*size, False) for name, size in SIZES.items()})


def make_folder(folder: Path, config: object = None) -> Path:
    folder.mkdir(exist_ok=True)
    save_file({NAME: np.full((8, 1), 2, np.float32)}, folder / "adapter_model.safetensors")
    text = json.dumps({"peft_type": "IA3"} if config is None else config)
    (folder / "adapter_config.json").write_text(text)
    return folder


def test_a_folder_and_a_file_in_it_are_the_same(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    for path in (folder, folder / "adapter_model.safetensors"):
        source = Source.open(path, LIMITS)
        assert source.shapes == {NAME: (8, 1)}
        assert source.config == {"peft_type": "IA3"}
        assert source.read()[NAME].dtype == np.float32


def test_a_config_in_the_header(tmp_path: Path) -> None:
    path = tmp_path / "one.safetensors"
    tensors = {NAME: np.ones((8, 1), np.float32)}
    save_file(tensors, path, {"adapter_config": '{"peft_type": "IA3"}'})
    assert Source.open(path, LIMITS).config == {"peft_type": "IA3"}
    save_file(tensors, path)
    with pytest.raises(InvalidAdapter, match="no adapter_config"):
        Source.open(path, LIMITS)


@pytest.mark.parametrize("name", ["adapter_model.bin", "adapter_model.pt"])
def test_pickles_are_never_opened(name: str, tmp_path: Path) -> None:
    torch.save({NAME: torch.ones(8, 1)}, tmp_path / name)
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(InvalidAdapter, match="holds a pickle"):
            Source.open(path, LIMITS)
    (tmp_path / name).rename(tmp_path / "adapter_model.safetensors")
    with pytest.raises(InvalidAdapter, match="looks like a zip file"):
        Source.open(tmp_path, LIMITS)


def test_sizes_are_asked_before_bytes_are_read(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    with pytest.raises(AdapterTooLarge, match=r"adapter_model\.safetensors has"):
        Source.open(folder, AdapterLimits(max_file_bytes=10))
    with pytest.raises(AdapterTooLarge, match=r"adapter_config\.json has"):
        Source.open(folder, AdapterLimits(max_config_bytes=10))
    with pytest.raises(InvalidAdapter, match="cannot be read: No such file"):
        Source.open(tmp_path / "nothing" / "x.safetensors", LIMITS)


@pytest.mark.parametrize("config", [[], "IA3", 3])
def test_a_config_is_an_object(config: object, tmp_path: Path) -> None:
    with pytest.raises(InvalidAdapter, match="must be a JSON object"):
        Source.open(make_folder(tmp_path, config), LIMITS)


def test_fields_have_types() -> None:
    assert field({"r": None}, "r", int, 3) == 3
    assert field({"r": 2}, "r", int, 3) == 2
    for value in (True, "2", 2.0):
        with pytest.raises(InvalidAdapter, match="r must be of type int"):
            field({"r": value}, "r", int, 3)


def test_names_through_wrappers() -> None:
    size = LinearSize(4, 8, False)
    base = BaseModules({"model.layers.0.up": size, "model.layers.1.up": size})
    wrapped = "base_model.model.base_model.model.model.layers.1.up"
    assert base.resolve(wrapped) == "model.layers.1.up"
    assert base.resolve("module._orig_mod.layers.0.up") == "model.layers.0.up"
    for name in ("up", "vision.model.layers.0.up", "base_model.model", "model.layers.2.up", ""):
        with pytest.raises(InvalidAdapter, match="is no linear layer"):
            base.resolve(name)


@given(weights(), configs() | st.just(b'{"peft_type": "IA3"}'))
def test_hostile_files_are_refused_and_nothing_else(weights: bytes, config: bytes) -> None:
    message = "imported"
    try:
        import_adapter(Source.parse(weights, config, LIMITS), BASE, "tiny", "", LIMITS)
    except InvalidAdapter as error:
        message = str(error)
    assert message.isprintable()
    assert len(message) < 1000
