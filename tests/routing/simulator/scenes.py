"""Small systems that tests simulate."""

from dataclasses import replace

import numpy as np

from routing.simulator.arrivals import Arrivals, Trace, make_arrivals, poisson
from routing.simulator.popularity import Popularity
from routing.simulator.profile import Profile, Wait
from routing.simulator.routers import ROUTERS
from routing.simulator.run import Run, Trail
from routing.simulator.scene import Event, Scene

TINY = Profile(
    name="tiny",
    step_s=1.0,
    sequence_s=0.1,
    prompt_token_s=0.01,
    context_token_s=0.0,
    max_num_seqs=2,
    max_prefill_tokens=10,
    max_kv_tokens=1000,
    num_slots=2,
    adapter_bytes=1,
    node_cache_bytes=3,
    replicas_per_node=2,
    from_node=Wait(0.5, 0.5),
    from_redis=Wait(2.0, 2.0),
)
"""Numbers that one can follow by hand."""

FAST = replace(
    TINY,
    step_s=0.01,
    sequence_s=0.0002,
    prompt_token_s=0.00005,
    max_num_seqs=32,
    max_prefill_tokens=512,
    max_kv_tokens=100_000,
    num_slots=64,
    node_cache_bytes=256,
    from_node=Wait(0.002, 0.01),
    from_redis=Wait(0.004, 0.02),
)


def make_requests(
    *, rate: float, seconds: float, doors: int = 2, adapters: int = 2000, seed: int = 0
) -> Arrivals:
    rng = np.random.default_rng(seed)
    trace = poisson(rate, seconds, rng, prompt_tokens=100, answer_tokens=20)
    return make_arrivals(trace, Popularity(adapters), doors, rng)


def fixed_requests(times_s: list[float], prompt_tokens: int, answer_tokens: int) -> Arrivals:
    """Requests for the base model at one door."""
    number = len(times_s)
    trace = Trace(np.array(times_s), np.full(number, prompt_tokens), np.full(number, answer_tokens))
    zeros = np.zeros(number, np.int64)
    return Arrivals(trace, zeros.astype(np.uint64), zeros, np.zeros(number))


def simulate(
    router: str,
    arrivals: Arrivals,
    *,
    profile: Profile = FAST,
    replicas: int = 4,
    doors: int = 2,
    events: tuple[Event, ...] = (),
    seed: int = 0,
) -> Trail:
    return Run(Scene(profile, replicas, doors, events), arrivals, ROUTERS[router], seed).trail()
