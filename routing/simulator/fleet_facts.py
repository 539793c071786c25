"""What is true of all replicas at this moment, which no door knows."""

import numpy as np
from numpy.typing import NDArray

from routing.simulator.job import Job
from routing.simulator.tiers import NodeFiles

Floats = NDArray[np.float64]


class FleetFacts:
    """Columns with a place for each replica, and who has which adapter.

    `ongoing` are requests sent there and not ended, `prompt_tokens` those of them without a first
    token, `context_tokens` what lies in the KV cache of the others, `is_up` whether the replica
    answers.
    """

    def __init__(self, max_replicas: int) -> None:
        self.ongoing: Floats = np.zeros(max_replicas)
        self.prompt_tokens: Floats = np.zeros(max_replicas)
        self.context_tokens: Floats = np.zeros(max_replicas)
        self.is_up = np.zeros(max_replicas, bool)
        self.nodes: list[NodeFiles] = []
        self._holders: dict[int, set[int]] = {}

    def __repr__(self) -> str:
        return f"<FleetFacts {int(self.is_up.sum())} replicas up>"

    def holders(self, adapter: int) -> set[int]:
        """Replicas with the adapter on the device."""
        return self._holders.get(adapter, set())

    def hold(self, replica: int, adapter: int) -> None:
        """It is on that device now."""
        self._holders.setdefault(adapter, set()).add(replica)

    def drop(self, replica: int, adapter: int) -> None:
        """It is not any more."""
        holders = self._holders.get(adapter)
        if holders is not None:
            holders.discard(replica)
            if not holders:
                del self._holders[adapter]

    def sent(self, job: Job) -> None:
        """A request is on its way."""
        self.ongoing[job.replica] += 1
        self.prompt_tokens[job.replica] += job.prompt_tokens

    def first_token(self, job: Job) -> None:
        """Its prompt is done."""
        self.prompt_tokens[job.replica] -= job.prompt_tokens
        self.context_tokens[job.replica] += job.prompt_tokens + job.answer_tokens / 2

    def ended(self, job: Job) -> None:
        """It is done."""
        self.ongoing[job.replica] -= 1
        self.context_tokens[job.replica] -= job.prompt_tokens + job.answer_tokens / 2
