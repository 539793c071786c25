"""What the numbers of the paper's experiments say. Knows the names of metrics, and no engine."""

import math
from collections.abc import Mapping

from benchmarks.crossover import measured_rank
from benchmarks.paper_models import MODELS
from benchmarks.paper_plan import LORA_RANKS, RANKS, RATES_PER_S

Metrics = Mapping[str, float]
_UNIT = "_tokens_per_s"


def curve(metrics: Metrics, stem: str, method: str, unit: str = _UNIT) -> dict[int, float]:
    """A method's numbers of a model by rank, of those that were measured."""
    names = {rank: f"{stem}_r{rank}_{method}{unit}" for rank in RANKS}
    return {rank: metrics[name] for rank, name in names.items() if name in metrics}


def stems(metrics: Metrics) -> list[str]:
    """The models whose throughput was measured, in the order of `MODELS`."""
    names = [model.replace("-", "_") for model in MODELS]
    return [stem for stem in names if curve(metrics, stem, "flora")]


def measured_ranks(metrics: Metrics) -> dict[str, float]:
    """`MODEL_crossover_rank_measured` of every model; no crossover among the ranks, no metric."""
    found = {}
    for stem in stems(metrics):
        ours, theirs = curve(metrics, stem, "flora"), curve(metrics, stem, "bmm")
        ranks = sorted(set(ours) & set(theirs))
        if len(ranks) > 1:
            rank = measured_rank(ranks, [ours[r] for r in ranks], [theirs[r] for r in ranks])
            if math.isfinite(rank):
                found[f"{stem}_crossover_rank_measured"] = rank
    return found


def verdict(metrics: Metrics) -> str:
    """A clause a finding."""
    parts = [_shares(metrics), _losses(metrics), _crossovers(metrics), _latencies(metrics)]
    parts += [_adapters(metrics), _phases(metrics)]
    return "; ".join(part for part in parts if part)


def _span(values: list[float], digits: int = 2) -> str:
    low, high = (f"{value:.{digits}f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _ratios(metrics: Metrics, rank: int, over: str) -> list[float]:
    found = []
    for stem in stems(metrics):
        other = f"{stem}_base{_UNIT}" if over == "base" else f"{stem}_r{rank}_{over}{_UNIT}"
        own = f"{stem}_r{rank}_flora{_UNIT}"
        if own in metrics and other in metrics:
            found.append(metrics[own] / metrics[other])
    return found


def _shares(metrics: Metrics) -> str:
    """Rank 1, against everybody."""
    titles = {"base": "of base", "bmm": "times bmm LoRA", "lora": "times vLLM's LoRA"}
    parts = [
        f"{_span(found)} {title}"
        for over, title in titles.items()
        if (found := _ratios(metrics, 1, over))
    ]
    return f"rank 1: fLoRA {', '.join(parts)}" if parts else ""


def _losses(metrics: Metrics) -> str:
    """Where another LoRA is quicker at a higher rank, and where not."""
    parts = []
    for rank in LORA_RANKS[1:]:
        found = {over: _ratios(metrics, rank, over) for over in ("bmm", "lora")}
        titles = {"bmm": "bmm LoRA", "lora": "vLLM's"}
        texts = [f"{_span(v)} times {titles[over]}" for over, v in found.items() if v]
        if texts:
            parts.append(f"rank {rank}: {', '.join(texts)}")
    return "; ".join(parts)


def _crossovers(metrics: Metrics) -> str:
    parts = []
    for stem in stems(metrics):
        if curve(metrics, stem, "bmm"):
            names = [f"{stem}_crossover_rank_{kind}" for kind in ("measured", "predicted")]
            shown = [f"{metrics[n]:.1f}" if n in metrics else "none" for n in names]
            parts.append(f"{stem.replace('_', '-')} {shown[0]} ({shown[1]})")
    if not parts:
        return ""
    return f"crossover rank with bmm LoRA, measured (predicted): {', '.join(parts)}"


def _latencies(metrics: Metrics) -> str:
    """How much longer bmm LoRA takes for a token at rank 1 and the lower rate."""
    found = []
    for model in MODELS:
        stem = model.replace("-", "_")
        unit = f"_{RATES_PER_S[0]}rps_ms_per_token"
        ours, theirs = (curve(metrics, stem, method, unit) for method in ("flora", "bmm"))
        if 1 in ours and 1 in theirs:
            found.append(theirs[1] / ours[1])
    if not found:
        return ""
    title = f"a token at {RATES_PER_S[0]} requests/s and rank 1"
    return f"{title} takes bmm LoRA {_span(found)} times as long"


def _adapters(metrics: Metrics) -> str:
    """fLoRA's share of base with the most adapters."""
    shares: dict[int, list[float]] = {}
    for name, value in metrics.items():
        stem, found, count = name.removesuffix("_adapters_flora_tokens_per_s").rpartition("_")
        if found and count.isdigit() and name.endswith("_adapters_flora_tokens_per_s"):
            base = metrics.get(f"{stem}_{count}_adapters_base_tokens_per_s")
            if base:
                shares.setdefault(int(count), []).append(value / base)
    if not shares:
        return ""
    parts = [f"{_span(shares[count])} with {count}" for count in sorted(shares)]
    return f"of base by adapters in the batch: {', '.join(parts)}"


def _phases(metrics: Metrics) -> str:
    """What rank 8 costs where prompts are long and where answers are."""
    parts = []
    for phase in ("prefill", "decode"):
        unit = f"_{phase}_heavy_all_tokens_per_s"
        found = [
            metrics[name] / metrics[other]
            for name in metrics
            if name.endswith(f"_r8_flora{unit}")
            and (other := name.replace("_r8_flora", "_base")) in metrics
        ]
        if found:
            parts.append(f"{_span(found)} of base {phase}-heavy")
    return f"rank 8: {', '.join(parts)}" if parts else ""
