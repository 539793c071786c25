"""What may be in an engine and in front of it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FairLimits:
    """What may be in the engine and in front of it.

    `max_num_seqs` sequences of anybody, and `reserved_seqs` more for fresh tenants: those that have
    had no more than `burst_cost` since they last came with nothing waiting and no more service than
    others. `max_prefill_tokens` of prompts that have brought no token yet, as much again for fresh
    tenants; a longer prompt goes alone. `max_waiting` requests wait, of all tenants.

    A tenant counts as active while it has requests here and for `active_s` after. Of the sequences
    that are an active tenant's share and that it leaves unused, `held_share` (0 to 1) stays free
    for it and the rest goes to whoever waits.

    A prompt token costs `prompt_cost`, a generated one `token_cost` (the paper's w_p and w_q).
    """

    max_num_seqs: int = 64
    reserved_seqs: int = 8
    max_prefill_tokens: int = 2048
    max_waiting: int = 2048
    held_share: float = 0.0
    active_s: float = 10.0
    prompt_cost: float = 1.0
    token_cost: float = 2.0
    burst_cost: float = 2048.0

    @property
    def max_running_seqs(self) -> int:
        return self.max_num_seqs + self.reserved_seqs
