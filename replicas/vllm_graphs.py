"""Steps that vLLM must not replay from a CUDA graph: those with pairs beyond the first.

How many rows these add to a product is decided on the host, and a captured graph has none of them.
vLLM picks a graph by shape and number of adapters; here a step that has further pairs finds none
that fits, and runs the same compiled code without one.
"""

import sys
from collections.abc import Callable, Iterable
from typing import Any

from vllm.config import CUDAGraphMode
from vllm.lora.request import LoRARequest

from contracts.errors import ServiceError

NeedsHost = Callable[[Iterable[LoRARequest]], bool]
"""Whether a step with these adapters decides something on the host."""

_NO_GRAPH = -1
"""A number of adapters that no graph was captured for; as an int it is passed on untouched."""


def keep_off_graphs(runner: Any, needs_host: NeedsHost) -> None:
    """Have a model runner, either of vLLM's, run such steps without a graph.

    Raises ServiceError when it picks its graphs in another way: answers would be wrong.
    """
    try:
        if hasattr(runner, "lora_state"):
            _follow_v2(runner, needs_host)
        else:
            _follow_v1(runner, needs_host)
    except AttributeError as error:
        raise ServiceError(f"this vLLM picks CUDA graphs in a way unknown here: {error}") from error


def _follow_v1(runner: Any, needs_host: NeedsHost) -> None:
    """The older runner has its dispatcher's answer after it has activated a step's adapters."""
    dispatcher = runner.cudagraph_dispatcher
    dispatch = dispatcher.dispatch

    def dispatch_flora(*args: Any, **kwargs: Any) -> Any:
        if needs_host(runner.input_batch.lora_id_to_lora_request.values()):
            kwargs |= {"valid_modes": {CUDAGraphMode.NONE}, "invalid_modes": None}
        return dispatch(*args, **kwargs)

    dispatcher.dispatch = dispatch_flora


def _follow_v2(runner: Any, needs_host: NeedsHost) -> None:
    """The newer one counts a step's adapters first, by a function of its module."""
    module: Any = sys.modules[type(runner).__module__]
    runner.lora_state.needs_host = needs_host
    count = module.get_num_active_loras_for_dispatch
    if hasattr(count, "is_flora"):
        return

    def count_flora(lora_config: Any, lora_state: Any, req_ids: Any, dummy_run: bool) -> int:
        asks = getattr(lora_state, "needs_host", None)
        if asks is not None and not dummy_run and asks(lora_state.get_activate_loras(req_ids)):
            return _NO_GRAPH
        found: int = count(lora_config, lora_state, req_ids, dummy_run)
        return found

    count_flora.is_flora = True  # type: ignore[attr-defined]
    module.get_num_active_loras_for_dispatch = count_flora
