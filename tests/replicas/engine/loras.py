"""LoRA adapters for a real engine, and their oracle: transformers with W + B A for W."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.pytorch_utils import Conv1D

from flora.adapter_config import AdapterLimits
from flora.codec import CompiledAdapter
from flora.layout import AdapterLayout
from flora.lora_codec import decompile_lora
from flora.lora_layout import LoraLayout
from flora.lora_row import LoraHeader
from flora.upload import compile_upload
from tests.flora.loras import make_config, make_weights
from tests.replicas.engine.parts import Oracle, Stack


def make_lora(stack: Stack, rank: int, seed: int, scale: float, part: str = "") -> CompiledAdapter:
    """A random LoRA through the way of an upload, on the modules whose names have `part`."""
    assert stack.lora_layout is not None
    rng = np.random.default_rng(seed)
    layout = stack.lora_layout
    factors = {
        member.name: (
            rng.normal(0, scale, (rank, n_in)).astype(np.float32),
            rng.normal(0, scale, (n_out, rank)).astype(np.float32),
        )
        for member, (n_in, n_out) in zip(layout.members, layout.sizes, strict=True)
        if part in member.name
    }
    config = make_config(r=rank, lora_alpha=2 * rank)
    weights = make_weights(factors)
    return compile_upload(stack.layout, layout, weights, config, AdapterLimits())


class MixedOracle(Oracle):
    """As Oracle, for LoRA rows too."""

    def __init__(self, model: Path, layout: AdapterLayout, lora: LoraLayout) -> None:
        super().__init__(model, layout)
        self._lora = lora

    def _adapted(self, adapter: CompiledAdapter) -> Any:
        if not adapter.blob.startswith(LoraHeader.MAGIC):
            return super()._adapted(adapter)
        model = copy.deepcopy(self._model)
        for name, (a, b) in decompile_lora(self._lora, adapter.blob).items():
            module, delta = model.get_submodule(name), torch.from_numpy(b @ a)
            module.weight.data += delta.T if isinstance(module, Conv1D) else delta
        return model
