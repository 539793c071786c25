"""The Triton kernels on a GPU: what the interpreter was asked, and replayed from a CUDA graph."""

from pathlib import Path

import pytest
import torch

from replicas.kernels import plain, scaled_linear
from replicas.kernels.scaled_linear import register_scaled_linear
from replicas.slab import Slab
from replicas.step_state import StepState
from tests.replicas import token_loop
from tests.replicas.kernels.test_plain import DTYPES, ROWS, SLOTS, assert_near, normal
from tests.replicas.rows import small_layout, write_row

pytestmark = pytest.mark.cuda


class Layer:
    """One layer on the GPU, and the same slots on the host for the token loop."""

    def __init__(self, folder: Path, row_dtype: str, group: int, dtype: torch.dtype) -> None:
        register_scaled_linear()
        layout, gpu, cpu = small_layout(row_dtype), torch.device("cuda"), torch.device("cpu")
        self.slabs = [Slab(layout, len(ROWS), device) for device in (gpu, cpu)]
        for slot, pairs in enumerate(ROWS, start=1):
            path = write_row(folder / str(slot), layout, pairs, seed=slot)
            for slab in self.slabs:
                slab.load(slot, path)
        self.state, self.group = StepState(self.slabs[0], 64), group
        shape = layout.groups[group]
        self.weight = normal(shape.out_features, shape.in_features, seed=2, dtype=dtype)
        self.bias = normal(shape.out_features, seed=3)
        self.x = normal(len(SLOTS), shape.in_features, dtype=dtype).cuda()
        on_device = self.weight.cuda()
        self.state.products[group] = lambda rows: rows @ on_device.T

    def exact(self, slots: list[int]) -> torch.Tensor:
        x = self.x.cpu()
        return token_loop.forward(self.slabs[1], slots, x, self.group, self.weight, self.bias)

    def __call__(self) -> torch.Tensor:
        bias = self.bias.cuda()
        return scaled_linear.scaled_linear(self.x, bias, self.state, self.group, False)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("row_dtype", [*DTYPES, "int8"])
@pytest.mark.parametrize("group", [0, 1])
def test_every_token_gets_its_own_pairs(
    tmp_path: Path, row_dtype: str, dtype: torch.dtype, group: int
) -> None:
    layer = Layer(tmp_path, row_dtype, group, dtype)
    for slots in ([0, 1, 3, 1, 0, 3, 3, 1], SLOTS, [4] * 8):
        layer.state.set_tokens(slots)
        # Tensor cores round float32 inputs unless told otherwise; PyTorch tells them.
        assert_near(layer().cpu(), layer.exact(slots), 8)


def test_plain_tensor_code_agrees(tmp_path: Path) -> None:
    layer = Layer(tmp_path, "bfloat16", 0, torch.bfloat16)
    layer.state.set_tokens(SLOTS)
    offset = layer.state.slab.layout.beta_offset(0)
    found = plain.scale_in(layer.x, layer.state, offset).cpu()
    assert_near(found, token_loop.scaled_inputs(layer.slabs[1], SLOTS, layer.x.cpu(), 0))


@pytest.mark.parametrize("row_dtype", ["bfloat16", "int8"])
def test_a_captured_graph_serves_every_step_of_first_pairs(tmp_path: Path, row_dtype: str) -> None:
    layer = Layer(tmp_path, row_dtype, 0, torch.bfloat16)
    layer.state.set_tokens([0] * 8)
    layer()  # compiles
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        # Without a bias, which a layer keeps on the device: nothing may come from the host.
        y = scaled_linear.scaled_linear(layer.x, None, layer.state, 0, False)
    for slots in ([1, 0, 3, 1, 3, 0, 1, 3], [3] * 8, [0] * 8):
        layer.state.set_tokens(slots)
        graph.replay()
        exact = layer.exact(slots) - layer.bias.double()
        assert_near(y.cpu(), exact, 8)
