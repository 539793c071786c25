"""Options that several commands share, and the settings that they make."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contracts.errors import InvalidRequest

if TYPE_CHECKING:
    from app.api_client import ApiClient
    from app.config import Settings

ConfigFile = Annotated[Path | None, typer.Option("--config", help="Settings as TOML.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Any setting: replica.num_slots=64")]
Url = Annotated[str, typer.Option(help="Where the server is.")]

Key = Annotated[
    str | None,
    typer.Option(help="An API key. Better give it by FLORA_API_KEY: others see command lines."),
]

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_FOLDER = Path("models/smollm2-135m-instruct")


def api_client(url: str, key: str | None) -> "ApiClient":
    """A client with the key that was given, or else that of the environment."""
    from app.api_client import ApiClient
    from app.config import read_api_key

    return ApiClient(url, read_api_key() if key is None else key)


def given_settings(
    config: Path | None, set_: list[str] | None, named: Mapping[str, Any] | None = None
) -> "Settings":
    """File, then environment, then `named`, then `--set`; later ones win. Raises InvalidRequest."""
    from app.config import load_settings

    return load_settings(config, nested({**(named or {}), **pairs(set_ or [])}))


def pairs(given: list[str]) -> dict[str, str]:
    """`a.b=c` as {"a.b": "c"}. Raises InvalidRequest."""
    for pair in given:
        if "=" not in pair:
            raise InvalidRequest(f"--set takes NAME=VALUE, not '{pair}'")
    return dict(pair.split("=", 1) for pair in given)


def nested(dotted: dict[str, Any]) -> dict[str, Any]:
    """{"a.b": c} as {"a": {"b": c}}."""
    result: dict[str, Any] = {}
    for name, value in dotted.items():
        *path, last = name.split(".")
        section = result
        for part in path:
            section = section.setdefault(part, {})
        section[last] = value
    return result
