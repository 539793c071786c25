"""The paper's serving experiments, and some more, as cells: what to measure on which engine.

An experiment is a function from a scale and a model to its cells. Knows no engine and no clock.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.paper_models import MODELS, Numbers, PaperModel

Method = Literal["base", "flora", "bmm", "lora"]
"""The base model; fLoRA; the paper's baseline, LoRA by `torch.bmm`; vLLM's own LoRA."""

METHODS: tuple[Method, ...] = ("base", "flora", "bmm", "lora")
RANKS = (1, 2, 4, 8, 16)
LORA_RANKS = (1, 8, 16)
"""What vLLM's LoRA kernels are made for, of `RANKS`."""
RATES_PER_S = (8, 15)
Unit = Literal["tokens_per_s", "all_tokens_per_s", "ms_per_token"]


@dataclass(frozen=True, slots=True)
class Setup:
    """What an engine is started with. `rank` 0 has no adapters; `num_seqs` is its largest batch."""

    model: str
    method: Method
    rank: int
    num_seqs: int
    numbers: Numbers = "bfloat16"
    num_devices: int = 1


@dataclass(frozen=True, slots=True)
class Load:
    """`num_requests` requests over `num_adapters` adapters, whose ranks go round.

    `lengths`: prompt and answer in tokens; None: ShareGPT's. `rate_per_s` 0: all at once.
    """

    num_requests: int
    num_adapters: int
    ranks: tuple[int, ...]
    lengths: tuple[int, int] | None = None
    rate_per_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Cell:
    """One number: the metric `name` plus `unit`."""

    name: str
    unit: Unit
    setup: Setup
    load: Load

    @property
    def metric(self) -> str:
        return f"{self.name}_{self.unit}"


@dataclass(frozen=True, slots=True)
class Scale:
    """How large everything is.

    Lengths are ShareGPT's divided by `length_divisor`. `is_cut`: models of a quarter of the widths
    and two layers. `is_together`: all engines of a model live in one process and are measured in
    turn; else each has the machine for itself. `default_models` have all experiments but
    throughput and crossover, which have all models.
    """

    name: str
    is_cut: bool
    is_together: bool
    length_divisor: int
    num_requests: int
    num_seqs: int
    num_latency_requests: int
    adapter_counts: tuple[int, ...]
    num_batched_tokens: int
    positions: int
    kv_cache_bytes: int | None
    slab_bytes: int
    max_slots: int
    heavy: int
    """Tokens of the long side of a prefill-heavy or decode-heavy request."""
    quantised: tuple[Numbers, ...]
    default_models: tuple[str, ...]

    def model(self, setup: Setup) -> PaperModel:
        """The shapes of an engine's model."""
        model = MODELS[setup.model]
        model = model.cut() if self.is_cut else model
        return model if setup.num_devices == 1 else model.part(setup.num_devices)

    def num_slots(self, setup: Setup, wanted: int) -> int:
        """Adapters that are on the device at once, `wanted` at most, a whole batch at least.

        A fLoRA slot has room for inputs that are not tied: for each of q, k and v, for gate and up.
        """
        model = self.model(setup)
        untied = 3 if setup.method == "flora" and model.family == "llama" else 1
        slot_bytes = 2 * untied * max(1, setup.rank) * model.num_pair_numbers
        return max(setup.num_seqs, min(wanted, self.max_slots, self.slab_bytes // slot_bytes))


CPU = Scale(
    name="cpu",
    is_cut=True,
    is_together=True,
    length_divisor=32,
    num_requests=24,
    num_seqs=8,
    num_latency_requests=40,
    adapter_counts=(1, 8, 64),
    num_batched_tokens=128,
    positions=512,
    kv_cache_bytes=1 << 27,
    slab_bytes=1 << 30,
    max_slots=64,
    heavy=96,
    quantised=("int8",),
    default_models=("llama3-8b",),
)
GPU = Scale(
    name="gpu",
    is_cut=False,
    is_together=False,
    length_divisor=1,
    num_requests=1000,
    num_seqs=128,
    num_latency_requests=480,
    adapter_counts=(1, 16, 64, 256, 1024),
    num_batched_tokens=2048,
    positions=2048,
    kv_cache_bytes=None,
    slab_bytes=24 << 30,
    max_slots=256,
    heavy=1024,
    quantised=("int8", "fp8"),
    default_models=("starcoder-15b", "llama3-8b"),
)
SCALES: Mapping[str, Scale] = {scale.name: scale for scale in (CPU, GPU)}


def setups(scale: Scale, model: str) -> list[Setup]:
    """Base and every method at every rank that it has."""
    ranks: Mapping[Method, Sequence[int]] = {
        "base": (0,),
        "flora": RANKS,
        "bmm": RANKS,
        "lora": LORA_RANKS,
    }
    return [Setup(model, m, rank, scale.num_seqs) for m in METHODS for rank in ranks[m]]


def at_rank(model: str, rank: int, num_seqs: int, **others: object) -> list[Setup]:
    """Base and every method at one rank."""
    return [
        Setup(model, method, 0 if method == "base" else rank, num_seqs, **others)  # type: ignore[arg-type]
        for method in METHODS
    ]


def stem(setup: Setup) -> str:
    """Model, rank and method as metrics name them."""
    model = setup.model.replace("-", "_")
    return f"{model}_r{setup.rank}_{setup.method}" if setup.rank else f"{model}_{setup.method}"


def throughput(scale: Scale, model: str) -> list[Cell]:
    """(a) Tokens answered a second by rank: ShareGPT's lengths, every request its own adapter."""
    num = scale.num_requests
    return [
        Cell(stem(setup), "tokens_per_s", setup, Load(num, num, (setup.rank,)))
        for setup in setups(scale, model)
    ]


def latency(scale: Scale, model: str) -> list[Cell]:
    """(b) Time a token by rank, of requests that come by a Poisson process: mean over requests of
    the time from arrival to end, divided by the tokens answered.
    """
    num = scale.num_latency_requests
    return [
        Cell(
            f"{stem(setup)}_{rate}rps",
            "ms_per_token",
            setup,
            Load(num, num, (setup.rank,), rate_per_s=rate),
        )
        for rate in RATES_PER_S
        for setup in setups(scale, model)
    ]


def adapters(scale: Scale, model: str) -> list[Cell]:
    """From one to very many adapters of rank 1 in a batch that is as large as they are many."""
    cells = []
    for count in scale.adapter_counts:
        num = max(count, scale.num_seqs)
        for setup in at_rank(model, 1, num):
            name = f"{model.replace('-', '_')}_{count}_adapters_{setup.method}"
            lengths = (scale.heavy // 8, scale.heavy // 4)
            load = Load(num, count, (setup.rank,), lengths)
            cells.append(Cell(name, "tokens_per_s", setup, load))
    return cells


def mixed(scale: Scale, model: str) -> list[Cell]:
    """All ranks in one batch; engines that pad, pad to the highest."""
    num = scale.num_requests - scale.num_requests % len(RANKS)
    return [
        Cell(
            f"{model.replace('-', '_')}_mixed_ranks_{setup.method}",
            "tokens_per_s",
            setup,
            Load(num, num, RANKS if setup.rank else (0,)),
        )
        for setup in at_rank(model, RANKS[-1], scale.num_seqs)
    ]


def phases(scale: Scale, model: str) -> list[Cell]:
    """Long prompts, long answers, and both alike: tokens read and answered a second."""
    long, short = scale.heavy, scale.heavy // 16
    shapes = {"prefill": (long, short), "decode": (short, long), "even": (long // 2, long // 2)}
    num = scale.num_seqs
    return [
        Cell(
            f"{stem(setup)}_{name}_heavy",
            "all_tokens_per_s",
            setup,
            Load(num, num, (setup.rank,), lengths),
        )
        for name, lengths in shapes.items()
        for rank in (1, 8)
        for setup in at_rank(model, rank, scale.num_seqs)
        if setup.rank or rank == 1
    ]


def quantised(scale: Scale, model: str) -> list[Cell]:
    """Over a base model whose linear layers have 8 bits."""
    num = scale.num_seqs
    return [
        Cell(
            f"{model.replace('-', '_')}_{numbers}_r1_{setup.method}",
            "tokens_per_s",
            setup,
            Load(num, num, (setup.rank,), (scale.heavy // 8, scale.heavy // 2)),
        )
        for numbers in scale.quantised
        for setup in at_rank(model, 1, scale.num_seqs, numbers=numbers)
    ]


def parallel(scale: Scale, model: str) -> list[Cell]:
    """The part that one of two devices has of every layer, without what they tell each other."""
    num = scale.num_seqs
    if MODELS[model].family != "llama":
        return []
    return [
        Cell(
            f"{model.replace('-', '_')}_half_r1_{setup.method}",
            "tokens_per_s",
            setup,
            Load(num, num, (setup.rank,), (scale.heavy // 8, scale.heavy // 2)),
        )
        for setup in at_rank(model, 1, scale.num_seqs, num_devices=2)
    ]


Experiment = Callable[[Scale, str], list[Cell]]
EXPERIMENTS: Mapping[str, Experiment] = {
    "throughput": throughput,
    "latency": latency,
    "adapters": adapters,
    "mixed": mixed,
    "phases": phases,
    "quantised": quantised,
    "parallel": parallel,
}
"""By name on the command line; "crossover" is beside them, as it needs no engine."""


def plan(
    scale: Scale, experiments: Sequence[str], models: Sequence[str], methods: Sequence[str]
) -> list[Cell]:
    """All cells. Without `models` throughput has all of them, the others the scale's own."""
    cells = []
    for name in experiments:
        if name in EXPERIMENTS:
            own = models or (MODELS if name == "throughput" else scale.default_models)
            if name == "latency" and not models:
                own = ("starcoder-15b",)
            for model in own:
                cells += [c for c in EXPERIMENTS[name](scale, model) if c.setup.method in methods]
    return cells
