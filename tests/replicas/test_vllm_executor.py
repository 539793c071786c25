"""An adapter is on all devices or on none. No process is started."""

from typing import Any

import pytest
from vllm.lora.request import LoRARequest

from contracts.errors import AdapterCorrupt
from replicas.vllm_executor import FloraExecutor

REQUEST = LoRARequest("name", 7, "path")


class Executor(FloraExecutor):
    """Its workers' answers to each method, and what they were asked."""

    def __init__(self, answers: dict[str, list[Any]]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, tuple[Any, ...]]] = []

    def collective_rpc(self, method: str, args: tuple[Any, ...] = ()) -> list[Any]:
        self.asked.append((method, args))
        return self.answers[method]


def test_an_adapter_that_all_workers_have() -> None:
    executor = Executor({"flora_load": ["", ""]})
    assert executor.add_lora(REQUEST)
    assert executor.asked == [("flora_load", (REQUEST,))]


@pytest.mark.parametrize("failures", [["it is cut", "it is cut"], ["", "it is cut"]])
def test_an_adapter_that_one_has_not_is_given_up_by_all(failures: list[str]) -> None:
    executor = Executor({"flora_load": failures, "remove_lora": [False, False]})
    with pytest.raises(AdapterCorrupt, match="it is cut"):
        executor.add_lora(REQUEST)
    assert executor.asked == [("flora_load", (REQUEST,)), ("remove_lora", (7,))]
