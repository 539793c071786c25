"""What one kind of replica can do, in numbers that were measured or are said to be assumed."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wait:
    """A time to fetch something, log-normal: its median and its 95th percentile."""

    p50_s: float
    p95_s: float


@dataclass(frozen=True, slots=True)
class Profile:
    """One engine and what is around it.

    An engine step takes `step_s` + `sequence_s` for each sequence that generates + `prompt_token_s`
    for each prompt token in it + `context_token_s` for each token in the KV cache of the sequences
    that generate. It takes at most `max_prefill_tokens` of prompts. `max_num_seqs` run at a time,
    and no more than have room in `max_kv_tokens`. `num_slots` adapters fit on the device; the
    `replicas_per_node` replicas of a node share its cache of `node_cache_bytes`. A request waits
    for `from_node` where its adapter is in that cache and for `from_redis` where it is not.
    """

    name: str
    step_s: float
    sequence_s: float
    prompt_token_s: float
    context_token_s: float
    max_num_seqs: int
    max_prefill_tokens: int
    max_kv_tokens: int
    num_slots: int
    adapter_bytes: int
    node_cache_bytes: int
    replicas_per_node: int
    from_node: Wait
    from_redis: Wait

    def __post_init__(self) -> None:
        if self.num_slots < self.max_num_seqs:
            raise ValueError(f"{self.num_slots} slots for {self.max_num_seqs} sequences")

    @property
    def node_adapters(self) -> int:
        """Adapters that fit into a node's cache."""
        return self.node_cache_bytes // self.adapter_bytes

    def max_rate(self, prompt_tokens: float, answer_tokens: float) -> float:
        """Requests of that size a second that one replica can just do, its batch always full."""
        tokens = prompt_tokens + answer_tokens
        num_seqs = min(self.max_num_seqs, self.max_kv_tokens / tokens)
        context = num_seqs * (prompt_tokens + answer_tokens / 2)
        full_s = self.step_s + self.sequence_s * num_seqs + self.context_token_s * context
        return 1 / (self.prompt_token_s * prompt_tokens + answer_tokens * full_s / num_seqs)

    def step_time_s(self, num_decoding: int, prompt_tokens: int, context_tokens: float) -> float:
        """How long a step takes."""
        return (
            self.step_s
            + self.sequence_s * num_decoding
            + self.prompt_token_s * prompt_tokens
            + self.context_token_s * context_tokens
        )


CPU = Profile(
    name="cpu",
    step_s=0.0191,
    sequence_s=0.0006,
    prompt_token_s=0.00042,
    context_token_s=0.0,
    max_num_seqs=64,
    max_prefill_tokens=2048,
    max_kv_tokens=46_000,
    num_slots=128,
    adapter_bytes=506_880,
    node_cache_bytes=2 << 30,
    replicas_per_node=1,
    from_node=Wait(0.0019, 0.0124),
    from_redis=Wait(0.0033, 0.0139),
)
"""SmolLM2-135M in bfloat16 on two cores, measured.

Step constants are a least-squares fit to 1 and 32 streams of benchmarks/results/stack.json
(`benchmarks.calibration` repeats it), waits are those of benchmarks/results/cold-start.json, sizes
are the settings' defaults, the KV cache is 1 GiB of 23 KB a token.
"""

H100 = Profile(
    name="h100",
    step_s=0.0065,
    sequence_s=0.00002,
    prompt_token_s=0.000033,
    context_token_s=5.2e-8,
    max_num_seqs=256,
    max_prefill_tokens=2048,
    max_kv_tokens=400_000,
    num_slots=1024,
    adapter_bytes=5_242_880,
    node_cache_bytes=256 << 30,
    replicas_per_node=8,
    from_node=Wait(0.0124, 0.0433),
    from_redis=Wait(0.0170, 0.0372),
)
"""Llama-3-8B in bfloat16 on one H100 SXM: assumed from public numbers, not measured.

A step reads 16 GB of weights at 3.35 TB/s, 75 % of which an engine reaches; a prompt token is 16
GFLOP at 990 TFLOP/s, half of which it reaches; a token of context is 131 KB of keys and values (32
layers, 8 heads of 128, two of 2 bytes) at 75 % of the bandwidth. `sequence_s`, what sampling and
bookkeeping take, is a guess. 52 GB are left for the KV cache after weights and 5 GB of slots.
Waits are those of benchmarks/results/cold-start.json for rows of 5 MB: measured, on two cores.
"""

PROFILES: Mapping[str, Profile] = {profile.name: profile for profile in (CPU, H100)}
"""By name."""
