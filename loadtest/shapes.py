"""The shapes of load by name. Each is a function of the configuration and an `rng` alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from heapq import merge

from loadtest.draw import Rng, adapters, asks, poisson_times
from loadtest.load_config import LoadConfig
from loadtest.plan import ALL, Action, Arrival, Crowd, Plan
from loadtest.traces import azure_arrivals, mooncake_arrivals

BURST_EVERY_S = 10.0
BURST_FACTOR = 4.0
"""A burst has as many requests as come otherwise in so many seconds, at once."""
STORM_AT = 0.25
"""The storm of cold starts begins when so much of the time is over."""
STORM_SPREAD_S = 1.0
PUBLISHES_PER_S = 1.0
KILLS_AT = (0.3, 0.6)
NOISY, QUIET = "noisy", "quiet"
COLD, WARM = "cold", "warm"
HEAD, TAIL = "head", "tail"
ARRIVALS, USERS = "arrivals", "users"
SOAK_PUBLISHES_PER_S = 0.2
SOAK_SLOS = (
    "failed_share=0",
    "failed_deeds=0",
    "rss_growth_share=0.05",
    "fds_growth=24",
    "ttft_p50_growth_share=0.25",
)
"""Flat: what grows by less is allocators, pools and other people's processes."""
_NUM_CROWD_ASKS = 4096

Make = Callable[[LoadConfig, Rng], Plan]


@dataclass(frozen=True, slots=True)
class Shape:
    """`make` turns a configuration into a plan; `rate` is the default of requests a second.

    `is_storm` says that half of the adapters must be such that nobody has asked for, `publishes`
    that adapters are published while it runs, `kills` that processes are killed, `watches` that the
    server's are read. `slos` hold where none are given.
    """

    summary: str
    make: Make
    rate: float = 8.0
    is_storm: bool = False
    publishes: bool = False
    kills: bool = False
    watches: bool = False
    slos: tuple[str, ...] = ()


def steady(config: LoadConfig, rng: Rng) -> Plan:
    """Users who wait for each answer before they ask again: load follows what the server gives."""
    return Plan(config.duration_s, crowd=_crowd(config, rng, ALL))


def poisson(config: LoadConfig, rng: Rng) -> Plan:
    """Independent requests: they come, however long the others take."""
    return Plan(config.duration_s, _poisson(config, rng))


def azure(config: LoadConfig, rng: Rng) -> Plan:
    """A piece of Azure's LLM traces."""
    return Plan(config.duration_s, tuple(azure_arrivals(config, rng)))


def mooncake(config: LoadConfig, rng: Rng) -> Plan:
    """A piece of Mooncake's conversation trace."""
    return Plan(config.duration_s, tuple(mooncake_arrivals(config, rng)))


def burst(config: LoadConfig, rng: Rng) -> Plan:
    """Poisson arrivals, and every ten seconds the requests of four seconds at once."""
    size = max(round(config.rate * BURST_FACTOR), 1)
    count = max(round(config.duration_s / BURST_EVERY_S), 1)
    every_s = config.duration_s / count
    bursts = [
        Arrival((number + 0.5) * every_s, ask)
        for number in range(count)
        for ask in asks(size, config, rng)
    ]
    return Plan(config.duration_s, _in_order(_poisson(config, rng), bursts))


def zipf(config: LoadConfig, rng: Rng) -> Plan:
    """Poisson arrivals; a tenth of the adapters are the head, the others the tail."""
    num_head = max(config.num_adapters // 10, 1)
    arrivals = (
        replace(a, ask=replace(a.ask, group=HEAD if a.ask.adapter < num_head else TAIL))
        for a in _poisson(config, rng)
    )
    return Plan(config.duration_s, tuple(arrivals))


def storm(config: LoadConfig, rng: Rng) -> Plan:
    """Poisson arrivals of the first half of the adapters, and within a second one request for
    each of the other half, which nobody has asked for.
    """
    num_warm = max(config.num_adapters // 2, 1)
    calm = _poisson(replace(config, num_adapters=num_warm), rng, WARM)
    cold = range(num_warm, config.num_adapters)
    begin_s = config.duration_s * STORM_AT
    times = sorted(rng.uniform(begin_s, begin_s + STORM_SPREAD_S, len(cold)).tolist())
    made = asks(len(cold), config, rng, COLD)
    rush = [
        Arrival(at_s, replace(ask, adapter=adapter))
        for at_s, ask, adapter in zip(times, made, rng.permutation(cold).tolist(), strict=True)
    ]
    return Plan(config.duration_s, _in_order(calm, rush))


def churn(config: LoadConfig, rng: Rng) -> Plan:
    """Poisson arrivals while every second one of the adapters is published anew."""
    return Plan(
        config.duration_s,
        _poisson(config, rng),
        actions=_publishes(PUBLISHES_PER_S, config, rng),
    )


def replica_loss(config: LoadConfig, rng: Rng) -> Plan:
    """Poisson arrivals while two replicas are killed, one after the other."""
    kills = tuple(Action(config.duration_s * at, "kill") for at in KILLS_AT)
    return Plan(config.duration_s, _poisson(config, rng), actions=kills)


def noisy(config: LoadConfig, rng: Rng) -> Plan:
    """Poisson arrivals of a quiet tenant beside one whose users ask without a break."""
    return Plan(config.duration_s, _poisson(config, rng, QUIET), crowd=_crowd(config, rng, NOISY))


def soak(config: LoadConfig, rng: Rng) -> Plan:
    """Poisson arrivals, users who wait, and publishes, all at a time."""
    return Plan(
        config.duration_s,
        _poisson(config, rng, ARRIVALS),
        crowd=_crowd(config, rng, USERS),
        actions=_publishes(SOAK_PUBLISHES_PER_S, config, rng),
    )


SHAPES: Mapping[str, Shape] = {
    "steady": Shape("users who wait for their answers", steady),
    "poisson": Shape("Poisson arrivals", poisson),
    "poisson-8": Shape("Poisson arrivals, 8 a second", poisson, 8.0),
    "poisson-15": Shape("Poisson arrivals, 15 a second", poisson, 15.0),
    "azure": Shape("Azure's LLM traces of 2023", azure),
    "mooncake": Shape("Mooncake's conversation trace", mooncake),
    "burst": Shape("Poisson arrivals and bursts", burst, 4.0),
    "zipf": Shape("Poisson arrivals for many adapters, few of them popular", zipf),
    "cold-start": Shape("a storm of adapters that nobody has used", storm, 4.0, is_storm=True),
    "churn": Shape("adapters are published while they are used", churn, 4.0, publishes=True),
    "replica-loss": Shape("replicas are killed", replica_loss, 4.0, kills=True),
    "noisy": Shape("a quiet tenant beside a noisy one", noisy, 2.0),
    "soak": Shape(
        "everything at a time, for long", soak, 2.0, publishes=True, watches=True, slos=SOAK_SLOS
    ),
}


def make_plan(name: str, config: LoadConfig, rng: Rng) -> Plan:
    """The plan of a shape. Raises ValueError where the shape needs adapters and there are none."""
    shape = SHAPES[name]
    if (shape.is_storm or shape.publishes) and config.num_adapters < 2:
        raise ValueError(f"{name} needs two adapters at least: see --publish")
    return shape.make(config, rng)


def _poisson(config: LoadConfig, rng: Rng, group: str = ALL) -> tuple[Arrival, ...]:
    times = poisson_times(config.rate, 0.0, config.duration_s, rng).tolist()
    made = asks(len(times), config, rng, group)
    return tuple(Arrival(at_s, ask) for at_s, ask in zip(times, made, strict=True))


def _crowd(config: LoadConfig, rng: Rng, group: str) -> Crowd:
    return Crowd(group, config.num_users, tuple(asks(_NUM_CROWD_ASKS, config, rng, group)))


def _publishes(rate: float, config: LoadConfig, rng: Rng) -> tuple[Action, ...]:
    times = poisson_times(rate, 0.0, config.duration_s, rng).tolist()
    chosen = adapters(len(times), replace(config, base_share=0.0), rng).tolist()
    return tuple(
        Action(at_s, "publish", number) for at_s, number in zip(times, chosen, strict=True)
    )


def _in_order(*parts: "list[Arrival] | tuple[Arrival, ...]") -> tuple[Arrival, ...]:
    return tuple(merge(*parts, key=lambda arrival: arrival.at_s))
