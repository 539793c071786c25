"""From a LoRA's files to its row, and back. Knows no server; numpy only."""

import hashlib

import numpy as np

from contracts.adapters import Digest
from contracts.errors import AdapterTooLarge, InvalidAdapter
from flora.adapter_config import AdapterLimits, show
from flora.codec import CompiledAdapter
from flora.lora_files import LoraFiles
from flora.lora_layout import LoraLayout
from flora.lora_row import Factors, decode_lora, encode_lora
from flora.row import Floats
from flora.row_head import Buffer

_EMBEDDINGS = ("lm_head", "embed_tokens", "embed_out", "embed_in", "wte", "wpe")


def compile_lora(layout: LoraLayout, files: LoraFiles, limits: AdapterLimits) -> CompiledAdapter:
    """Lays a LoRA out for `layout`, the scalings in B; exact up to the layout's dtype.

    Raises AdapterTooLarge (rank, row size), else InvalidAdapter.
    """
    factors = {
        _place(layout, module, a, b): (a, _scaled(b, files.config.scaling_of(module)))
        for module, (a, b) in files.modules.items()
    }
    factors = {i: (a, b) for i, (a, b) in factors.items() if a.any() and b.any()}
    if not factors:
        raise InvalidAdapter("the adapter changes nothing: B A is zero in every module it names")
    ranks = [len(factors[i][0]) if i in factors else 0 for i in range(len(layout.sizes))]
    num_bytes = layout.base.itemsize * layout.num_numbers(ranks)
    if num_bytes > limits.max_row_bytes:
        raise AdapterTooLarge(f"compiles to {num_bytes} bytes, at most {limits.max_row_bytes}")
    blob = encode_lora(layout, [factors.get(i) for i in range(len(ranks))])
    return CompiledAdapter(blob, Digest(hashlib.sha256(blob).hexdigest()), max(ranks), len(factors))


def decompile_lora(layout: LoraLayout, blob: Buffer) -> dict[str, Factors]:
    """A and B of every module that the LoRA changes, W' = W + B A. Raises AdapterCorrupt."""
    factors = zip(layout.members, decode_lora(layout, blob), strict=True)
    return {member.name: pair for member, pair in factors if pair is not None}


def _scaled(b: Floats, scaling: float) -> Floats:
    return b * np.float32(scaling)


def _place(layout: LoraLayout, module: str, a: Floats, b: Floats) -> int:
    """Index of the module, which these factors fit."""
    place = layout.places.get(module)
    if place is None and module.rpartition(".")[2] in _EMBEDDINGS:
        raise InvalidAdapter(f"module {show(module)}: LoRA on embeddings or the head is not served")
    if place is None:
        raise InvalidAdapter(f"module {show(module)} is not one this base model can adapt")
    n_in, n_out = layout.sizes[place]
    if a.shape[1] != n_in or b.shape[0] != n_out:
        raise InvalidAdapter(
            f"module {show(module)} has lora_A {list(a.shape)} and lora_B {list(b.shape)},"
            f" but it reads {n_in} and gives {n_out}"
        )
    if len(a) > layout.max_rank:
        raise AdapterTooLarge(
            f"LoRA rank {len(a)}; this server takes at most {layout.max_rank} (replica.lora_rank)"
        )
    return place
