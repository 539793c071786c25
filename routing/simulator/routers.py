"""The routers by name."""

from collections.abc import Mapping

from routing.simulator.oracle_router import OracleRouter
from routing.simulator.policy_router import FreshPolicyRouter, PolicyRouter
from routing.simulator.router import MakeRouter
from routing.simulator.simple_routers import (
    MultiplexRouter,
    PowerOfTwoRouter,
    RingRouter,
    RoundRobinRouter,
)

ROUTERS: Mapping[str, MakeRouter] = {
    "flora": PolicyRouter,
    "flora-fresh": FreshPolicyRouter,
    "power-of-two": PowerOfTwoRouter,
    "multiplex": MultiplexRouter,
    "ring": RingRouter,
    "round-robin": RoundRobinRouter,
    "oracle": OracleRouter,
}
"""Ours first, the oracle last."""
