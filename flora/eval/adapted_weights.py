"""The weights that an adapter makes of a model's, whatever its method. Knows no server."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from contracts.errors import InvalidAdapter
from flora.adapter_config import show
from flora.adapter_files import AdapterFiles, read_adapter
from flora.codec import Scales, compile_adapter, decompile
from flora.eval.lora import LoraPair, read_lora
from flora.eval.peft_folder import (
    CONFIG_FILE,
    LIMITS,
    WEIGHTS_FILE,
    PeftFolder,
    check_size,
    read_config,
    read_folder,
)
from flora.layout import AdapterLayout, Group, Member
from flora.linear import linear_features, linear_modules
from flora.shared_inputs import find_shared_inputs

Weights = dict[str, torch.Tensor]
"""W' [out, in] by module name, float32; a module that is not in it keeps its weight."""


def adapted_weights(model: nn.Module, folder: Path, base_fingerprint: str = "") -> Weights:
    """What the adapter in `folder` makes of the model: PEFT's FLORA, LORA or IA3.

    Raises InvalidAdapter and kin, and for fLoRA WrongBaseModel.
    """
    kind = read_config(folder).get("peft_type")
    if kind == "FLORA":
        weights, config = (folder / name for name in (WEIGHTS_FILE, CONFIG_FILE))
        check_size(weights, LIMITS.max_file_bytes)
        files = read_adapter(weights.read_bytes(), config.read_bytes(), LIMITS)
        return flora_weights(model, files, base_fingerprint)
    if kind == "LORA":
        return lora_weights(model, read_lora(read_folder(folder)))
    if kind == "IA3":
        return _ia3_weights(model, read_folder(folder))
    raise InvalidAdapter(f"peft_type is {show(kind)}; FLORA, LORA and IA3 can be read")


def flora_weights(model: nn.Module, files: AdapterFiles, base_fingerprint: str = "") -> Weights:
    """W' = sum_j diag(A_j) W diag(B_j), by way of the row that a server would hold."""
    linears = linear_modules(model)
    groups = tuple(
        Group(
            names[0],
            linear_features(linears[names[0]])[0],
            tuple(Member(name, linear_features(linears[name])[1]) for name in names),
        )
        for names in find_shared_inputs(model)
    )
    fingerprint = base_fingerprint or files.config.base_fingerprint
    layout = AdapterLayout(fingerprint, "float32", files.config.rank, groups)
    scales = decompile(layout, compile_adapter(layout, files, LIMITS).blob)
    changed = {name: pair for name, pair in scales.items() if not _is_identity(pair)}
    return {
        name: base_weight(linears[name]) * (torch.from_numpy(a).T @ torch.from_numpy(b))
        for name, (b, a) in changed.items()
    }


def lora_weights(model: nn.Module, pairs: Mapping[str, LoraPair]) -> Weights:
    """W + scaling * B A. Raises InvalidAdapter where the model has no such layer."""
    weights = {}
    for name, pair in pairs.items():
        weight = _weight_of(model, name)
        if (pair.b.shape[0], pair.a.shape[1]) != tuple(weight.shape):
            raise InvalidAdapter(f"module {show(name)} has other sizes than the base model's")
        weights[name] = weight + pair.delta()
    return weights


def base_weight(linear: Any) -> torch.Tensor:
    """[out, in] in float32, whichever way the layer stores it."""
    weight: torch.Tensor = linear.weight.detach().float()
    return weight.T if isinstance(linear, Conv1D) else weight


@contextmanager
def swapped(model: nn.Module, weights: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """The model with those weights in place, rounded to its dtype; its own come back after."""
    kept: dict[str, nn.Parameter] = {}
    try:
        for name, weight in weights.items():
            linear: Any = model.get_submodule(name)
            kept[name] = linear.weight
            stored = weight.T if isinstance(linear, Conv1D) else weight
            linear.weight = nn.Parameter(
                stored.to(linear.weight.dtype).contiguous(), requires_grad=False
            )
        yield
    finally:
        for name, parameter in kept.items():
            model.get_submodule(name).weight = parameter


def _ia3_weights(model: nn.Module, folder: PeftFolder) -> Weights:
    """Liu et al. 2022: a vector scales a layer's output, a feed-forward layer's input in PEFT."""
    weights = {}
    for name, scale in folder.tensors.items():
        module = name.removesuffix(".ia3_l")
        if module == name or scale.ndim != 2 or 1 not in scale.shape:
            raise InvalidAdapter(f"tensor {show(name)} is not an ia3_l of a linear layer")
        weight = _weight_of(model, module)
        if scale.shape not in {(weight.shape[0], 1), (1, weight.shape[1])}:
            raise InvalidAdapter(f"module {show(module)} has other sizes than the base model's")
        weights[module] = weight * scale
    return weights


def _weight_of(model: nn.Module, name: str) -> torch.Tensor:
    try:
        linear = model.get_submodule(name)
    except AttributeError:
        linear = None
    if not isinstance(linear, nn.Linear | Conv1D):
        raise InvalidAdapter(f"the model has no linear layer {show(name)}")
    return base_weight(linear)


def _is_identity(scales: Scales) -> bool:
    b, a = scales
    rest = np.abs(a[1:]).max(axis=1, initial=0) * np.abs(b[1:]).max(axis=1, initial=0)
    return bool((a[0] == 1).all() and (b[0] == 1).all() and not rest.any())
