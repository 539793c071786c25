"""Fleets for tests: replicas by id with what they have to do and hold."""

from collections.abc import Mapping

from contracts.replica import ReplicaReport
from routing.config import RoutingConfig
from routing.fleet import Fleet


def make_report(number: int = 1, load: int = 0, residents: tuple[int, ...] = ()) -> ReplicaReport:
    return ReplicaReport(number, load, num_running=0, residents=residents)


def make_fleet(
    loads: Mapping[str, int],
    config: RoutingConfig | None = None,
    residents: Mapping[str, tuple[int, ...]] | None = None,
    now_s: float = 0.0,
) -> Fleet:
    """Each replica has reported its load, and the adapters in `residents`, once."""
    fleet = Fleet(config or RoutingConfig())
    held = residents or {}
    reports = {r: make_report(1, load, held.get(r, ())) for r, load in loads.items()}
    fleet.update(reports, now_s)
    return fleet


def loads_of(fleet: Fleet, now_s: float = 0.0) -> dict[str, float]:
    """Tokens to do by replica."""
    loads = fleet.loads(now_s)
    return {r: float(loads[fleet.slot_of(r)]) for r in fleet.replica_ids}


def holders_of(fleet: Fleet, adapter: int) -> set[str]:
    """Who has an adapter."""
    return {fleet.id_of(slot) for slot in fleet.residency.holders(adapter)}
