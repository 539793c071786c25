"""Settings of one replica. Reads no environment: the composition root builds this once."""

from dataclasses import dataclass
from typing import Literal

from replicas.fair_limits import FairLimits

_NO_LIMIT = 1 << 60
_MAX_RESERVED_SEQS = 16


@dataclass(frozen=True, slots=True)
class ReplicaConfig:
    """One engine and its slots. `model` is a folder or a Hugging Face name; engine "echo" has none
    and says a token every `echo_step_s`.

    A tenant may have `max_num_seqs` sequences run at once, and `reserved_seqs` more run for tenants
    that ask now and then; None reserves half of `max_num_seqs`, at most 16, as far as slots allow.
    At most `max_prefill_tokens` of prompts are in the engine before their first token, as much
    again for tenants that ask now and then. Of what active tenants leave unused of their shares,
    `held_share` (0 to 1) stays free for them; a tenant is active for `active_s` after its last
    request. At most `max_waiting` requests wait. Without `fair_queue` all go to the
    engine in the order in which they come.
    `num_slots` adapters fit on the device at once; it is at least as many as sequences that run, so
    that slots never decide who may. `max_rank` is the highest rank of one module that a slot has
    room for.
    `row_dtype` is the number format of adapters: "auto" takes the model's, "int8" half its bytes.
    `max_model_len_tokens` None takes the model's own, `kv_cache_bytes` None 1 GiB on
    a CPU and a share of the memory on a GPU.
    `num_threads` is what a CPU engine computes with, None all cores that the process may use.
    `enforce_eager` None runs eagerly on a CPU, where compiling takes a minute at every start, and
    compiled on a GPU.
    """

    model: str
    engine: Literal["vllm", "echo"] = "vllm"
    num_replicas: int = 1
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    row_dtype: Literal["auto", "int8"] = "auto"
    num_slots: int = 128
    max_rank: int = 4
    max_num_seqs: int = 64
    reserved_seqs: int | None = None
    max_prefill_tokens: int = 2048
    max_waiting: int = 2048
    held_share: float = 0.5
    active_s: float = 10.0
    fair_queue: bool = True
    max_model_len_tokens: int | None = None
    max_num_batched_tokens: int | None = None
    kv_cache_bytes: int | None = None
    quantization: str | None = None
    gpu_memory_share: float = 0.9
    num_threads: int | None = None
    num_gpus: float = 0.0
    num_cpus: float = 1.0
    enforce_eager: bool | None = None
    kernel: Literal["auto", "plain"] = "auto"
    seed: int = 0
    echo_step_s: float = 0.0

    def __post_init__(self) -> None:
        if self.num_slots < self.max_num_seqs:
            raise ValueError(
                f"num_slots ({self.num_slots}) must be at least max_num_seqs ({self.max_num_seqs})"
            )
        if self.max_running_seqs > self.num_slots:
            raise ValueError(
                f"num_slots ({self.num_slots}) must be at least max_num_seqs and reserved_seqs"
                f" together ({self.max_running_seqs})"
            )
        for name in ("max_num_seqs", "max_prefill_tokens", "max_waiting"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.reserved_seqs is not None and self.reserved_seqs < 0:
            raise ValueError(f"reserved_seqs must not be negative, not {self.reserved_seqs}")
        if not 0 <= self.held_share <= 1:
            raise ValueError(f"held_share must be from 0 to 1, not {self.held_share}")
        if not 0 <= self.active_s < float("inf"):
            raise ValueError(f"active_s must be at least 0, not {self.active_s}")
        if self.max_rank < 1:
            raise ValueError(f"max_rank must be at least 1, not {self.max_rank}")
        if self.echo_step_s < 0:
            raise ValueError(f"echo_step_s must not be negative, not {self.echo_step_s}")

    @property
    def max_running_seqs(self) -> int:
        """Sequences of one batch, whoever's."""
        if self.reserved_seqs is not None:
            return self.max_num_seqs + self.reserved_seqs
        reserved = min(_MAX_RESERVED_SEQS, (self.max_num_seqs + 1) // 2)
        return min(self.max_num_seqs + reserved, self.num_slots)

    @property
    def fair_limits(self) -> FairLimits:
        """What the queue in front of the engine lets in; without one, everything."""
        if not self.fair_queue:
            return FairLimits(max_num_seqs=_NO_LIMIT, reserved_seqs=0, max_prefill_tokens=_NO_LIMIT)
        return FairLimits(
            max_num_seqs=self.max_num_seqs,
            reserved_seqs=self.max_running_seqs - self.max_num_seqs,
            max_prefill_tokens=self.max_prefill_tokens,
            max_waiting=self.max_waiting,
            held_share=self.held_share,
            active_s=self.active_s,
        )
