"""Settings of one replica. Reads no environment: the composition root builds this once."""

import math
from dataclasses import dataclass, field
from typing import Literal

from replicas.fair_limits import FairLimits
from replicas.scaling import ScalingConfig

_NO_LIMIT = 1 << 60
_MAX_RESERVED_SEQS = 16
LORA_RANKS = (0, 1, 8, 16, 32, 64, 128, 256)
"""Highest ranks that vLLM's LoRA kernels can be made for, and 0 for none."""


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
    With a `lora_rank` above 0 the engine also takes additive LoRA adapters of that rank at most,
    `lora_slots` of them at a time; requests for others wait.
    `row_dtype` is the number format of adapters: "auto" takes the model's, "int8" half its bytes.
    `max_model_len_tokens` None takes the model's own, `kv_cache_bytes` None 1 GiB on
    a CPU and a share of the memory on a GPU.
    `num_threads` is what a CPU engine computes with, None all cores that the process may use.
    `enforce_eager` None runs eagerly on a CPU, where compiling takes a minute at every start, and
    compiled on a GPU. `num_gpus` below 1 shares one GPU, more than 1 is a whole number, None takes
    one a device of the model where vLLM's CUDA build is installed;
    `tensor_parallel_size` devices share one model: GPUs that are all of them that process's own, or
    processes on a CPU, which divide `num_threads` and have `kv_cache_bytes` each. `scaling` says
    how the number of replicas changes.
    """

    model: str
    engine: Literal["vllm", "echo"] = "vllm"
    num_replicas: int = 1
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    row_dtype: Literal["auto", "int8"] = "auto"
    num_slots: int = 128
    max_rank: int = 4
    lora_rank: int = 0
    lora_slots: int = 8
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
    num_gpus: float | None = None
    tensor_parallel_size: int = 1
    num_cpus: float = 1.0
    enforce_eager: bool | None = None
    kernel: Literal["auto", "plain", "triton"] = "auto"
    seed: int = 0
    echo_step_s: float = 0.0
    scaling: ScalingConfig = field(default_factory=ScalingConfig)

    def __post_init__(self) -> None:
        self._require_devices()
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
        self._require_lora()
        if self.echo_step_s < 0:
            raise ValueError(f"echo_step_s must not be negative, not {self.echo_step_s}")

    def _require_devices(self) -> None:
        gpus, parallel = self.num_gpus, self.tensor_parallel_size
        # Ray says so, too, once it is too late to name the setting.
        if gpus is not None and (not 0 <= gpus < math.inf or (gpus > 1 and gpus != int(gpus))):
            raise ValueError(f"num_gpus must be 0 to 1 or a whole number, not {gpus}")
        if not 0 <= self.num_cpus < math.inf:
            raise ValueError(f"num_cpus must be at least 0, not {self.num_cpus}")
        if parallel < 1:
            raise ValueError(f"tensor_parallel_size must be at least 1, not {parallel}")
        if parallel > 1 and gpus not in (None, 0, parallel):
            raise ValueError(
                f"tensor_parallel_size {parallel} needs as many num_gpus, or 0 on CPUs, not {gpus}"
            )

    def _require_lora(self) -> None:
        if self.lora_rank not in LORA_RANKS:
            raise ValueError(f"lora_rank is one of {LORA_RANKS}, not {self.lora_rank}")
        if self.lora_slots < 1:
            raise ValueError(f"lora_slots must be at least 1, not {self.lora_slots}")
        if self.lora_rank and self.tensor_parallel_size > 1:
            raise ValueError(
                f"lora_rank {self.lora_rank} needs tensor_parallel_size 1,"
                f" not {self.tensor_parallel_size}"
            )

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
