"""What a replica says of itself."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReplicaInfo:
    """Facts that the door needs before it can admit a request.

    `layout_json` is the `flora.layout.AdapterLayout` of the loaded base model, as JSON text: an
    upload is compiled against it. `max_model_len_tokens` bounds prompt plus answer.
    """

    model: str
    max_model_len_tokens: int
    vocab_size: int
    num_slots: int
    layout_json: str


@dataclass(frozen=True, slots=True)
class SlotReport:
    """How an engine's device slots are used; counts are since its start.

    A hit is a request whose adapter was known to be in its slot, a miss one whose row was loaded
    first. An eviction is an adapter that lost its slot to another.
    """

    num_slots: int
    used: int
    hits: int
    misses: int
    evictions: int
