"""`flora simulate`: routers against a model of many replicas."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contracts.errors import InvalidRequest

if TYPE_CHECKING:
    from rich.table import Table

    from routing.simulator.comparison import Comparison
    from routing.simulator.outcome import Outcome
    from routing.simulator.scene import Event

ALL = "all"

Data = Annotated[Path, typer.Option(help="The folder of public traces.")]
Events = Annotated[list[str] | None, typer.Option(help="kill:SECONDS:REPLICA or add:SECONDS.")]
Rate = Annotated[float, typer.Option(min=0, help="Requests a second; 0: 0.6 of the most.")]
Routers = Annotated[list[str] | None, typer.Option(help="One router, more by more; or all.")]


def simulate(
    replicas: Annotated[int, typer.Option(min=1, max=10_000)] = 100,
    doors: Annotated[int, typer.Option(min=1, max=1_000)] = 16,
    rate: Rate = 0.0,
    adapters: Annotated[int, typer.Option(min=1, help="Different adapters.")] = 10_000_000,
    zipf: Annotated[float, typer.Option(min=0, help="Skew; 0: all alike.")] = 1.0,
    hot: Annotated[float, typer.Option(min=0, max=1, help="One adapter's share.")] = 0.0,
    trace: Annotated[str, typer.Option(help="poisson, azure-conv, azure-code...")] = "poisson",
    router: Routers = None,
    profile: Annotated[str, typer.Option(help="cpu or h100.")] = "h100",
    seconds: Annotated[float, typer.Option(min=0.1, help="Of arrivals.")] = 20.0,
    event: Events = None,
    seed: int = 0,
    data: Data = Path("../shared/data"),
    json_: Annotated[Path | None, typer.Option("--json", help="Where the numbers go.")] = None,
) -> None:
    """Compare routers on a model of many replicas; the policy is the one that serves."""
    # numpy and rich take a moment to import.
    from rich.console import Console

    from routing.simulator.comparison import Comparison
    from routing.simulator.popularity import Popularity
    from routing.simulator.profile import PROFILES
    from routing.simulator.routers import ROUTERS
    from routing.simulator.scene import Scene

    names = list(ROUTERS) if router is None or ALL in router else router
    _check(names, list(ROUTERS), "router")
    _check([profile], list(PROFILES), "profile")
    try:
        scene = Scene(PROFILES[profile], replicas, doors, tuple(map(parse_event, event or ())))
        popularity = Popularity(adapters, zipf, hot)
        comparison = Comparison(scene, popularity, trace, rate, seconds, seed, data)
    except ValueError as error:
        raise InvalidRequest(str(error)) from None
    found = {}
    with Console(stderr=True).status("simulating") as status:
        for name, outcome in comparison.outcomes(names):
            found[name] = outcome
            status.update(f"simulating: {name} is done")
    Console(width=120).print(table_of(found))
    if json_ is not None:
        json_.write_text(to_json(comparison, found), encoding="utf-8")


def parse_event(text: str) -> "Event":
    """`kill:10:3` or `add:10`. Raises InvalidRequest."""
    from routing.simulator.scene import Event

    try:
        what, at_s, *replica = text.split(":")
        if what == "add" and not replica:
            return Event(float(at_s), "add")
        if what == "kill" and len(replica) == 1:
            return Event(float(at_s), "kill", int(replica[0]))
    except ValueError:
        pass
    raise InvalidRequest(f"an event is kill:SECONDS:REPLICA or add:SECONDS, not '{text}'")


def table_of(found: "dict[str, Outcome]") -> "Table":
    """A row a router."""
    from rich.table import Table

    titles = ("router", "device", "node", "Redis", "imbalance", "TTFT p50", "p95", "p99 ms")
    table = Table(*titles, "gap p50", "p99 ms", "tokens/s", "moved")
    for name, outcome in found.items():
        shares = (outcome.device_hit_rate, outcome.node_hit_rate, outcome.redis_rate)
        waits = (outcome.ttft_p50_s, outcome.ttft_p95_s, outcome.ttft_p99_s)
        gaps = (outcome.gap_p50_s, outcome.gap_p99_s)
        table.add_row(
            name,
            *(f"{share:.3f}" for share in shares),
            f"{outcome.imbalance:.2f}",
            *(f"{wait_s * 1e3:.0f}" for wait_s in waits),
            *(f"{gap_s * 1e3:.1f}" for gap_s in gaps),
            f"{outcome.tokens_per_s:,.0f}",
            f"{outcome.moved_share:.3f}",
        )
    return table


def to_json(comparison: "Comparison", found: "dict[str, Outcome]") -> str:
    """What was simulated, and all of each router's numbers."""
    scene = comparison.scene
    asked = {
        "profile": scene.profile.name,
        "replicas": scene.num_replicas,
        "doors": scene.num_doors,
        "requests_per_s": comparison.real_rate(),
        "trace": comparison.trace,
        "adapters": comparison.popularity.num_adapters,
        "zipf": comparison.popularity.exponent,
        "hot_share": comparison.popularity.hot_share,
        "seconds": comparison.seconds,
        "seed": comparison.seed,
    }
    routers = {name: outcome.metrics() for name, outcome in found.items()}
    return json.dumps({"config": asked, "routers": routers}, indent=2) + "\n"


def _check(names: list[str], known: list[str], what: str) -> None:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InvalidRequest(f"no {what} '{unknown[0]}'; there are: {', '.join(known)}")
