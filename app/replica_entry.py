"""What the API says of one replica, read from what the replica counts. Knows nothing of HTTP."""

import logging
from collections.abc import Mapping
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from app.replica_state import ReplicaState

_LOG = logging.getLogger(__name__)

MAX_RESIDENTS = 64
"""Adapters that an entry names, the latest used; their number it tells in any case."""
TIERS = ("node", "redis", "store")
"""Tiers of the adapter cache behind the slots, in the order in which they are asked."""
_DIGEST_DIGITS = 16

Samples = Mapping[tuple[str, str, str], float]
"""Values by name, label `tier` and label `result`; summed over all other labels."""


def replica_entry(state: ReplicaState) -> dict[str, Any]:
    """The `replica` object of the API; numbers that nobody has told are None."""
    samples = _samples(state)
    residents = state.report.residents if state.report else ()
    return {
        "id": state.replica_id,
        "object": "replica",
        "model": state.model,
        "answers": state.page is not None,
        "slots": _slots(samples, "flora_slots"),
        "lora_slots": _slots(samples, "flora_lora_slots"),
        "tiers": [_tier(samples, name) for name in TIERS if _knows(samples, name)],
        "waiting": _count(samples, "flora_queue_waiting"),
        "running": _count(samples, "flora_running_sequences"),
        "generated_tokens": _count(samples, "flora_tenant_tokens_total"),
        "load_tokens": state.report.load_tokens if state.report else None,
        "num_residents": len(residents) if state.report else None,
        "residents": [f"{word:0{_DIGEST_DIGITS}x}" for word in residents[:MAX_RESIDENTS]],
    }


def _samples(state: ReplicaState) -> Samples:
    sums: dict[tuple[str, str, str], float] = {}
    try:
        for family in text_string_to_metric_families((state.page or b"").decode()):
            for sample in family.samples:
                labels = sample.labels
                key = (sample.name, labels.get("tier", ""), labels.get("result", ""))
                sums[key] = sums.get(key, 0.0) + sample.value
    except ValueError as error:
        _LOG.warning("metrics of replica %s cannot be read: %s", state.replica_id, error)
        return {}
    return sums


def _count(samples: Samples, name: str, tier: str = "", result: str = "") -> int | None:
    value = samples.get((name, tier, result))
    return None if value is None else int(value)


def _slots(samples: Samples, name: str) -> dict[str, int | None] | None:
    total = _count(samples, name)
    if total is None:
        return None
    counts = {what: _count(samples, f"{name}_{what}_total") for what in _SLOT_COUNTS}
    return {"total": total, "used": _count(samples, f"{name}_used"), **counts}


_SLOT_COUNTS = ("hits", "misses", "evictions")


def _knows(samples: Samples, tier: str) -> bool:
    return ("flora_cache_requests_total", tier, "hit") in samples


def _tier(samples: Samples, tier: str) -> dict[str, Any]:
    asked = {
        plural: _count(samples, "flora_cache_requests_total", tier, result)
        for plural, result in _RESULTS.items()
    }
    return {
        "name": tier,
        **asked,
        "read_bytes": _count(samples, "flora_cache_read_bytes_total", tier),
        "evictions": _count(samples, "flora_cache_evictions_total", tier),
        "used_bytes": _count(samples, "flora_cache_used_bytes", tier),
        "budget_bytes": _count(samples, "flora_cache_budget_bytes", tier),
    }


_RESULTS = {"hits": "hit", "misses": "miss", "corrupt": "corrupt", "errors": "error"}
