"""Random adapters, as their owners upload them."""

from collections.abc import Sequence

import httpx
import numpy as np

from flora.adapter_config import AdapterConfig
from flora.adapter_files import AdapterFiles, tensor_name, write_adapter
from flora.layout import AdapterLayout

_SEED = 0

Upload = tuple[bytes, bytes]
"""An adapter as it is published: weights and config."""


def write_uploads(layout: AdapterLayout, count: int) -> list[Upload]:
    """Random rank-1 adapters with tied inputs."""
    rng = np.random.default_rng(_SEED)
    uploads = []
    for _ in range(count):
        tensors = {}
        for group in layout.groups:
            shared = rng.normal(0, 0.02, (1, group.in_features)).astype(np.float32)
            for member in group.members:
                tensors[tensor_name(member.name, "B")] = shared
                alpha = rng.normal(0, 0.02, (1, member.out_features)).astype(np.float32)
                tensors[tensor_name(member.name, "A")] = alpha
        files = AdapterFiles(AdapterConfig(1, "deviation", True), tensors)
        uploads.append(write_adapter(files, "bfloat16"))
    return uploads


def publish(url: str, uploads: Sequence[Upload]) -> list[str]:
    """Upload the adapters; their names."""
    names = []
    with httpx.Client(base_url=url, timeout=60) as client:
        for i, (weights, config) in enumerate(uploads):
            files = {"weights": ("a.safetensors", weights), "config": ("c.json", config)}
            client.put(f"/v1/adapters/bench-{i}", files=files).raise_for_status()
            names.append(f"bench-{i}")
    return names
