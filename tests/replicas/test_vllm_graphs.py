"""Which steps vLLM's two model runners find a CUDA graph for, with its own ways of picking one."""

import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from vllm.config import CUDAGraphMode
from vllm.lora.request import LoRARequest
from vllm.v1.worker.gpu.cudagraph_utils import BatchExecutionDescriptor, CudaGraphManager
from vllm.v1.worker.gpu.lora_utils import LoraState, get_num_active_loras_for_dispatch

from contracts.errors import ServiceError
from replicas.slab import Slab
from replicas.slot_bank import SlotBank
from replicas.vllm_graphs import keep_off_graphs
from replicas.vllm_manager import FloraAdapterManager
from tests.replicas.rows import CPU, small_layout, write_row

NUM_SLOTS = 8


def request(number: int) -> LoRARequest:
    return LoRARequest(f"row-{number}", number, f"/rows/{number}")


def has_more(requests: Iterable[LoRARequest]) -> bool:
    """Adapters with odd ids have further pairs."""
    return any(each.lora_int_id % 2 for each in requests)


class V2Runner:
    """What of the newer runner matters: its adapters, and how it counts them."""

    def __init__(self, *adapters: int) -> None:
        self.lora_state = LoraState(max_num_reqs=8)
        for number in adapters:
            self.lora_state.add_request(str(number), number % 8, request(number))

    def count(self, is_dummy: bool = False) -> int:
        counting: Any = sys.modules[__name__ + ".runner"]
        found: int = counting.get_num_active_loras_for_dispatch(
            SimpleNamespace(max_loras=NUM_SLOTS),
            self.lora_state,
            list(self.lora_state.lora_requests),
            is_dummy,
        )
        return found


@pytest.fixture(autouse=True)
def runner_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module that the newer runner's class is of."""
    module = ModuleType(__name__ + ".runner")
    module.get_num_active_loras_for_dispatch = get_num_active_loras_for_dispatch  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(V2Runner, "__module__", module.__name__)


@pytest.fixture
def graphs() -> CudaGraphManager:
    """As if it had captured graphs of 4 tokens, without adapters and with any number of them."""
    manager = CudaGraphManager.__new__(CudaGraphManager)
    manager.lora_capture_cases = [0, NUM_SLOTS + 1]
    manager._lora_dispatch_map, manager._max_lora_case = manager._build_lora_dispatch_map()
    manager._graphs_captured = True
    manager._candidates = {
        (4, case): [BatchExecutionDescriptor(CUDAGraphMode.FULL, 4, 4, num_active_loras=case)]
        for case in manager.lora_capture_cases
    }
    return manager


@pytest.mark.parametrize(
    ("adapters", "mode"),
    [
        ((), CUDAGraphMode.FULL),
        ((2, 4), CUDAGraphMode.FULL),
        ((2, 3), CUDAGraphMode.NONE),
        ((1,), CUDAGraphMode.NONE),
    ],
)
def test_the_newer_runner_finds_no_graph_for_further_pairs(
    graphs: CudaGraphManager, adapters: tuple[int, ...], mode: CUDAGraphMode
) -> None:
    runner = V2Runner(*adapters)
    for _ in range(2):  # another engine in the process changes nothing
        keep_off_graphs(runner, has_more)
    assert graphs.dispatch(4, 4, None, runner.count()).cg_mode == mode
    assert graphs.dispatch(4, 4, None, runner.count(is_dummy=True)).cg_mode == CUDAGraphMode.FULL


def test_engines_that_are_not_ours_keep_their_graphs() -> None:
    keep_off_graphs(V2Runner(), has_more)
    assert V2Runner(1, 3, 5).count() == 3


class Dispatcher:
    """Answers what it was asked."""

    def dispatch(self, num_tokens: int, **kwargs: Any) -> dict[str, Any]:
        return kwargs


def test_the_older_runner_is_told_that_none_is_valid() -> None:
    batch = SimpleNamespace(lora_id_to_lora_request={2: request(2)})
    runner = SimpleNamespace(cudagraph_dispatcher=Dispatcher(), input_batch=batch)
    keep_off_graphs(runner, has_more)
    asked = {"valid_modes": None, "invalid_modes": {CUDAGraphMode.FULL}}
    assert runner.cudagraph_dispatcher.dispatch(4, **asked) == asked
    runner.input_batch = SimpleNamespace(lora_id_to_lora_request={3: request(3)})
    found = runner.cudagraph_dispatcher.dispatch(4, **asked)
    assert found == {"valid_modes": {CUDAGraphMode.NONE}, "invalid_modes": None}


def test_another_way_of_picking_graphs_stops_the_start() -> None:
    with pytest.raises(ServiceError, match="picks CUDA graphs"):
        keep_off_graphs(SimpleNamespace(), has_more)


def test_the_manager_knows_whose_pairs_need_the_host(tmp_path: Path) -> None:
    slab = Slab(small_layout(), 3, CPU)
    manager = FloraAdapterManager.__new__(FloraAdapterManager)
    manager._slab, manager._rows = slab, SlotBank(slab, 3)
    for number, pairs in ((1, (0, 0)), (2, (0, 3)), (3, (0, 0))):
        row = write_row(tmp_path / str(number), slab.layout, pairs)
        manager._rows.add(number, row)
    assert not manager.needs_host([])
    assert not manager.needs_host([request(1), request(3)])
    assert manager.needs_host([request(1), request(2)])
    manager._rows.remove(3)  # of an adapter without a slot nothing is known
    assert manager.needs_host([request(3)])
