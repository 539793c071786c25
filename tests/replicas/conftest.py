"""The operators of fLoRA layers, registered once, and replicas over engines without a model."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import torch

from replicas.echo_engine import EchoEngine
from replicas.kernels.native import load_native
from replicas.kernels.plain import register_add_pairs
from tests.replicas.engines import Stack, SteppedEngine


@pytest.fixture(scope="session")
def native_ops() -> Any:
    """`torch.ops.flora` with the CPU kernel behind it."""
    register_add_pairs()
    assert load_native()
    return torch.ops.flora


@pytest.fixture
async def echo(tmp_path: Path) -> AsyncIterator[Stack]:
    stack = Stack(EchoEngine(), tmp_path)
    yield stack
    await stack.close()


@pytest.fixture
def engine() -> SteppedEngine:
    return SteppedEngine()


@pytest.fixture
async def stepped(engine: SteppedEngine, tmp_path: Path) -> AsyncIterator[Stack]:
    stack = Stack(engine, tmp_path)
    yield stack
    await stack.close()
