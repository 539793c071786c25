"""Who goes together and who is refused. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from app.ask import Ask
from app.model_name import unknown_model
from app.quota import Verdict
from contracts.adapters import BASE, AdapterKey, AdapterRef
from contracts.errors import ServingError
from contracts.generation import GenerateRequest

Found = Mapping[AdapterRef, AdapterKey | ServingError | None] | ServingError
"""What the store knows of each ref, or how it failed to answer."""
_NO_VERDICTS: Mapping[str, Verdict] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """Each of `groups` is one call to a replica; `refused` pairs a request id with its error."""

    groups: tuple[tuple[GenerateRequest, ...], ...]
    refused: tuple[tuple[str, ServingError], ...]


def plan_window(
    asks: Sequence[Ask], found: Found, verdicts: Mapping[str, Verdict] = _NO_VERDICTS
) -> WindowPlan:
    """All that can run is one group, whatever mixture of adapters it holds.

    `verdicts` by request id are those of quotas; who has none has no quota.
    """
    group: list[GenerateRequest] = []
    refused: list[tuple[str, ServingError]] = []
    for ask in asks:
        verdict = verdicts.get(ask.request_id)
        key = verdict if isinstance(verdict, ServingError) else _key_of(ask, found)
        if isinstance(key, ServingError):
            refused.append((ask.request_id, key))
        else:
            group.append(ask.request(key))
    return WindowPlan((tuple(group),) if group else (), tuple(refused))


def split_ready(
    asks: Sequence[Ask], is_resolved: bool, is_charged: bool
) -> tuple[list[Ask], list[Ask]]:
    """Who needs nothing more than what is known, and who waits on."""
    ready: list[Ask] = []
    late: list[Ask] = []
    for ask in asks:
        known = (is_resolved or ask.adapter is None) and (
            is_charged or ask.caller.quota.is_unlimited
        )
        (ready if known else late).append(ask)
    return ready, late


def _key_of(ask: Ask, found: Found) -> AdapterKey | ServingError:
    if ask.adapter is None:
        return BASE
    if isinstance(found, ServingError):
        return found
    key = found.get(ask.adapter)
    return unknown_model(ask.model) if key is None else key
