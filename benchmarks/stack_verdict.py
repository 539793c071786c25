"""What the numbers of `flora bench stack` say about its targets. Knows nothing of servers."""

from collections.abc import Mapping

_TARGETS = (
    ("http32_share_of_engine", "HTTP {:.3f} of the engine", 0.90),
    ("grpc32_share_of_engine", "gRPC {:.3f}", 0.90),
)
MAX_ADDED_TTFT_MS = 8.0


def verdict(metrics: Mapping[str, float]) -> str:
    """Each target with what was reached, as far as it was measured."""
    parts = []
    for name, text, target in _TARGETS:
        if name in metrics:
            parts.append(
                text.format(metrics[name]) + f" ({_met(metrics[name] >= target)} {target})"
            )
    added = metrics.get("http_added_ttft_ms_p50")
    if added is not None:
        met = _met(added <= MAX_ADDED_TTFT_MS)
        parts.append(f"first token {added:.1f} ms later ({met} {MAX_ADDED_TTFT_MS:.0f} ms)")
    rivals = {name: _share_against(metrics, name) for name in PEERS}
    parts += [
        f"{share:.2f} times {title}"
        for name, title in PEERS.items()
        if (share := rivals[name]) is not None
    ]
    return "; ".join(parts)


PEERS = {
    "vllm_serve_default": "`vllm serve` as it comes",
    "vllm_serve": "`vllm serve` in one process",
    "vllm_serve_lora_r8": "`vllm serve` with LoRA rank 8",
    "ray_llm_lora_r8": "`ray.serve.llm` with LoRA rank 8",
}
"""Servers that ours is compared with, each by its share of the engine in its own rounds."""


def _share_against(metrics: Mapping[str, float], peer: str) -> float | None:
    ours = metrics.get("http32_share_of_engine")
    theirs = metrics.get(f"{peer}_share_of_engine")
    return ours / theirs if ours and theirs else None


def _met(is_met: bool) -> str:
    return "meets" if is_met else "misses"
