"""What a door knows of one replica now: what it has answered, and what it has reported."""

from dataclasses import dataclass

from contracts.replica import ReplicaReport


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """`page` is what the replica counts, as Prometheus text: None where it does not answer in time.
    `report` is what it said last of its load and its adapters, None where it has not said it yet.
    """

    replica_id: str
    model: str
    page: bytes | None
    report: ReplicaReport | None
