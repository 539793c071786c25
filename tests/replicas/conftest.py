"""The operators that fLoRA layers call, registered once."""

from typing import Any

import pytest
import torch

from replicas.kernels.native import load_native
from replicas.kernels.plain import register_add_pairs


@pytest.fixture(scope="session")
def native_ops() -> Any:
    """`torch.ops.flora` with the CPU kernel behind it."""
    register_add_pairs()
    assert load_native()
    return torch.ops.flora
