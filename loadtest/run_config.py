"""All that a run is told: the shape, the server, the bounds. Built once, from the options."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from loadtest.load_config import LoadConfig
from loadtest.shapes import NOISY, SHAPES, Shape

Protocol = Literal["http", "grpc"]
SECRETS = ("api_key", "noisy_key")


@dataclass(frozen=True)
class RunConfig:
    """`publish` adapters are made of those in `uploads` and published before the run.

    `adapters` are models to ask for; empty: those that the server names, or those published. A
    request may take `timeout_s`; `drain_s` after the last arrival whatever still runs is cut off.
    """

    shape: str
    url: str
    load: LoadConfig
    protocol: Protocol = "http"
    grpc_address: str = ""
    api: str = "openai"
    model: str = ""
    adapters: tuple[str, ...] = ()
    publish: int = 0
    uploads: Path = Path("flora/demo/adapters")
    api_key: str = ""
    noisy_key: str = ""
    timeout_s: float = 120.0
    drain_s: float = 30.0
    slos: tuple[str, ...] = ()
    report: Path = Path("loadtest-reports")
    name: str = ""
    watch: bool = False
    server_pid: int = 0
    kill_command: str = ""

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ValueError(f"no shape '{self.shape}'; there are: {', '.join(SHAPES)}")
        if not urlsplit(self.url).hostname:
            raise ValueError(f"a server is http://HOST:PORT, not '{self.url}': see --url")
        if self.protocol == "grpc" and not self.grpc_address:
            raise ValueError("gRPC needs --grpc-address HOST:PORT")
        if self.timeout_s <= 0 or self.drain_s < 0 or self.publish < 0:
            raise ValueError("--timeout must be over 0, --drain and --publish not below it")
        if self.needs_publishing and not self.publish:
            raise ValueError(f"{self.shape} publishes adapters: say how many with --publish")

    @property
    def kind(self) -> Shape:
        """What there is to know of the shape."""
        return SHAPES[self.shape]

    @property
    def needs_publishing(self) -> bool:
        """Whether the shape is about adapters that the run itself has published."""
        return self.kind.is_storm or self.kind.publishes

    @property
    def all_slos(self) -> tuple[str, ...]:
        """Those that were asked for, or else the shape's own."""
        return self.slos or self.kind.slos

    @property
    def title(self) -> str:
        """What the reports are called: the shape, unless it was said otherwise."""
        return self.name or self.shape

    def key_of(self, group: str) -> str:
        """The API key of a group's tenant."""
        return self.noisy_key or self.api_key if group == NOISY else self.api_key

    def public(self) -> dict[str, Any]:
        """Everything but the keys, for a record."""
        named = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in SECRETS}
        load = {f.name: getattr(self.load, f.name) for f in fields(self.load)}
        flat = {**named, **load}
        del flat["load"]
        plain = (int, float, str, bool)
        return {
            name: value if isinstance(value, plain) else _as_text(value)
            for name, value in flat.items()
        }


def from_options(options: Mapping[str, Any]) -> RunConfig:
    """The configuration that options say, by the names of the fields. Raises ValueError."""
    shape = SHAPES.get(options["shape"])
    load = {f.name: options[f.name] for f in fields(LoadConfig) if f.name in options}
    load["rate"] = options["rate"] or (shape.rate if shape else LoadConfig.rate)
    load["num_users"] = options["num_users"] or LoadConfig.num_users
    load["data"] = Path(options["data"])
    own = {f.name: options[f.name] for f in fields(RunConfig) if f.name in options}
    own["adapters"] = _parts([options["adapters"]])
    own["slos"] = _parts(options["slos"] or ())
    own |= {name: Path(options[name]) for name in ("uploads", "report")}
    return RunConfig(**own, load=LoadConfig(**load))


def _parts(texts: Iterable[str]) -> tuple[str, ...]:
    """Everything between commas."""
    return tuple(part.strip() for text in texts for part in text.split(",") if part.strip())


def _as_text(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else str(value)
