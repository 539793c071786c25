"""What the routes that watch a server answer, for the OpenAPI document."""

from typing import Literal

from app.http_structure_schemas import Wire


class SlotUse(Wire):
    """Device slots for one kind of adapter, and their counts since the engine's start."""

    total: int
    used: int | None
    hits: int | None
    misses: int | None
    evictions: int | None


class TierUse(Wire):
    """A tier of the adapter cache as one replica has asked it since its start."""

    name: Literal["node", "redis", "store"]
    hits: int | None
    misses: int | None
    corrupt: int | None
    errors: int | None
    read_bytes: int | None
    evictions: int | None
    used_bytes: int | None
    budget_bytes: int | None


class ReplicaEntry(Wire):
    """One replica; null where it has not told. `residents` are the first digits of digests."""

    id: str
    object: Literal["replica"]
    model: str
    answers: bool
    slots: SlotUse | None
    lora_slots: SlotUse | None
    tiers: list[TierUse]
    waiting: int | None
    running: int | None
    generated_tokens: int | None
    load_tokens: int | None
    num_residents: int | None
    residents: list[str]


class ReplicaPage(Wire):
    """All replicas."""

    object: Literal["list"]
    data: list[ReplicaEntry]
    first_id: str | None
    last_id: str | None
    has_more: bool


class UsageEntry(Wire):
    """What one tenant has used, of one model where `model` is not null."""

    tenant: str
    model: str | None
    requests: int
    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int


class UsageAnswer(Wire):
    """Usage since `since`, Unix time; `complete`: of the whole period that was asked for."""

    object: Literal["usage"]
    tenant: str
    since: int
    until: int
    complete: bool
    data: list[UsageEntry]
    has_more: bool
