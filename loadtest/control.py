"""What a run asks of a server besides answers: which models there are, and publishes."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from loadtest.adapter_files import CONFIG_FILE, WEIGHTS_FILE, AdapterFiles

_TIMEOUT_S = 60.0
_PAGE = 1000
OWN_PREFIX = "loadtest-"
"""Names of adapters that a run publishes begin so."""


@dataclass(frozen=True, slots=True)
class Models:
    """What clients call the base model and its adapters."""

    base: str
    adapters: tuple[str, ...] = ()

    def name_of(self, adapter: int) -> str:
        """The model of an adapter's number; of the base for numbers below 0."""
        return self.adapters[adapter] if adapter >= 0 else self.base


class Control:
    """One server's `/v1/models` and `/v1/adapters`."""

    def __init__(self, url: str, key: str = "") -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT_S)

    def models(self) -> Models:
        """The first base model and its adapters. Raises httpx.HTTPError, ValueError."""
        answer = self._http.get("/v1/models", params={"limit": _PAGE})
        answer.raise_for_status()
        return models_of(answer.json()["data"])

    def publish(self, name: str, files: AdapterFiles) -> float:
        """Seconds until an adapter is current. Raises httpx.HTTPError."""
        started_s = time.perf_counter()
        parts = {
            "config": (CONFIG_FILE, files.config),
            "weights": (WEIGHTS_FILE, files.weights),
        }
        self._http.put(f"/v1/adapters/{name}", files=parts).raise_for_status()
        return time.perf_counter() - started_s

    def close(self) -> None:
        """Hang up."""
        self._http.close()


def models_of(cards: Sequence[dict[str, Any]]) -> Models:
    """Adapters are called `base:name`, or name the base as their parent: `vllm serve`'s do.

    Raises ValueError where there is no base model.
    """
    adapters = [card["id"] for card in cards if card.get("parent") or ":" in card["id"]]
    bases = [card["id"] for card in cards if card["id"] not in set(adapters)]
    if not bases:
        raise ValueError("the server names no base model: say which with --model")
    base = bases[0]
    return Models(base, tuple(name for name in adapters if _is_of(name, base)))


def own_names(count: int) -> list[str]:
    """Names of the adapters that a run publishes."""
    return [f"{OWN_PREFIX}{number}" for number in range(count)]


def _is_of(adapter: str, base: str) -> bool:
    return ":" not in adapter or adapter.startswith(f"{base}:")
