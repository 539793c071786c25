"""What a replica says of itself."""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from contracts.adapters import Digest

_REPORT = "flora"


@dataclass(frozen=True, slots=True)
class ReplicaInfo:
    """Facts that the door needs before it can admit a request.

    `layout_json` is the `flora.layout.AdapterLayout` of the loaded base model, as JSON text: an
    upload is compiled against it. `max_model_len_tokens` bounds prompt plus answer. A model that
    listens hears `max_audio_s` of a clip; 0 is one that takes text alone. `lora_layout_json` is
    `layout_json` for additive LoRA adapters, and empty where the engine takes none.
    """

    model: str
    max_model_len_tokens: int
    vocab_size: int
    num_slots: int
    layout_json: str
    max_audio_s: float = 0.0
    lora_layout_json: str = ""


@dataclass(frozen=True, slots=True)
class SlotReport:
    """How an engine's device slots are used; counts are since its start.

    A hit is a request whose adapter was in its slot, a miss one whose row was loaded first. An
    eviction is an adapter that lost its slot to another. `waiting` requests wait for a slot: only
    for one of the LoRA adapters' own, which are counted in `lora` where the engine takes those.
    """

    num_slots: int
    used: int
    hits: int
    misses: int
    evictions: int
    lora: "SlotReport | None" = None
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """What a replica tells those who choose among replicas, every second or so.

    `number` grows with each report. `load_tokens` is what it still has to do for all doors: prompt
    tokens that have given no answer yet, and tokens of answers that are expected. `residents` are
    the adapters whose rows are at hand, the latest used first: `digest_word` of each, bounded in
    number whatever the number of adapters.
    """

    number: int
    load_tokens: int
    num_running: int
    residents: tuple[int, ...] = ()

    def to_stats(self) -> dict[str, bytes]:
        """The report as Ray Serve carries it: 24 bytes, and eight for each resident."""
        head = (self.number, self.load_tokens, self.num_running)
        return {_REPORT: array("Q", (*head, *self.residents)).tobytes()}

    @classmethod
    def from_stats(cls, stats: Mapping[str, Any]) -> "ReplicaReport | None":
        """None where there is none. Both ends run on machines of one byte order."""
        if not isinstance(stats.get(_REPORT), bytes):
            return None
        number, load_tokens, num_running, *residents = array("Q", stats[_REPORT])
        return cls(number, load_tokens, num_running, tuple(residents))


def digest_word(digest: Digest) -> int:
    """The first 64 bits of a digest: what tells adapters apart where a mix-up costs only time."""
    return int(digest[:16], 16)
