"""vLLM's executor of a model that several devices share, a worker process each."""

from vllm.lora.request import LoRARequest
from vllm.v1.executor.multiproc_executor import MultiprocExecutor

from contracts.errors import AdapterCorrupt
from replicas.vllm_manager import die_with_parent


class FloraExecutor(MultiprocExecutor):
    """Its processes end with the replica's, and an adapter is on all devices or on none."""

    def _init_executor(self) -> None:
        die_with_parent()  # the workers end with this process, each by its own manager
        super()._init_executor()

    def add_lora(self, lora_request: LoRARequest) -> bool:
        """Load an adapter. Raises AdapterCorrupt when a worker could not.

        Failures come as values: of workers that raise, the base class reads the first one's answer
        and leaves those behind it to the next call, which takes them for its own.
        """
        failures = [
            text for text in self.collective_rpc("flora_load", args=(lora_request,)) if text
        ]
        if failures:
            self.remove_lora(lora_request.lora_int_id)
            raise AdapterCorrupt(failures[0])
        return True
