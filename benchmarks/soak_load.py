"""All that clients do to a server, at random: some behave, some leave, some are wrong."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

from benchmarks.uploads import Upload

NUM_NAMES = 24
_BUSY = {429, 503, 504}
_BAD_BODIES: tuple[bytes, ...] = (
    b"",
    b"{",
    b"[]",
    b'{"model": 7, "prompt": "x"}',
    b'{"model": "nobody:nothing", "prompt": "x"}',
    b'{"prompt": "x", "unknown": true}',
    b'{"model": "\\ud800", "prompt": "x"}',
    b"[" * 5000,
)


@dataclass(slots=True)
class Outcome:
    """What was answered: statuses by action, and every answer that should not have been."""

    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def note(self, action: str, status: int | str, allowed: set[int] | None = None) -> None:
        """Count one answer; `allowed` are its right statuses beside those of a busy server."""
        self.statuses[f"{action} {status}"] += 1
        if isinstance(status, int) and status not in (allowed or set()) | _BUSY:
            self.wrong.append(f"{action}: {status}")


class MixedLoad:
    """Clients of one server. `key` may generate and publish; `uploads` fit its layout.

    An answer of `late_tokens` takes longer than the server allows.
    """

    def __init__(
        self,
        url: str,
        key: str,
        base: str,
        uploads: list[Upload],
        rng: np.random.Generator,
        late_tokens: int,
    ) -> None:
        self.outcome = Outcome()
        self._base = base
        self._uploads = uploads
        self._rng = rng
        self._late_tokens = late_tokens
        self._http = httpx.AsyncClient(
            base_url=url,
            timeout=60,
            headers={"Authorization": f"Bearer {key}"},
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=16),
        )
        self._actions: tuple[tuple[int, Callable[[], Coroutine[Any, Any, None]]], ...] = (
            (30, self._stream),
            (12, self._answer),
            (20, self._leave),
            (8, self._leave_early),
            (4, self._deadline),
            (8, self._publish),
            (4, self._rollback),
            (2, self._delete),
            (3, self._prefetch),
            (4, self._list),
            (8, self._bad_body),
            (4, self._bad_upload),
        )

    async def run(self, seconds: float, num_clients: int) -> None:
        """Ask for that long, each client one thing after the other, and wait for the last ones."""
        until_s = time.monotonic() + seconds
        weights = np.array([weight for weight, _ in self._actions], float)

        async def client() -> None:
            while time.monotonic() < until_s:
                chosen = int(self._rng.choice(len(self._actions), p=weights / weights.sum()))
                action = self._actions[chosen][1]
                started_s = time.monotonic()
                try:
                    await action()
                except httpx.HTTPError as error:
                    after_s = time.monotonic() - started_s
                    name = action.__name__.strip("_")
                    self.outcome.wrong.append(f"{name} after {after_s:.2f} s: {error!r}")

        async with asyncio.TaskGroup() as group:
            for _ in range(num_clients):
                group.create_task(client())

    async def close(self) -> None:
        """Hang up."""
        await self._http.aclose()

    def _name(self) -> str:
        return f"soak-{self._rng.integers(NUM_NAMES)}"

    def _body(self, *, stream: bool, num_tokens: int = 0) -> dict[str, Any]:
        model = f"{self._base}:{self._name()}" if self._rng.random() < 0.7 else self._base
        return {
            "model": model,
            "prompt": self._rng.integers(1, 200, 8).tolist(),
            "max_tokens": num_tokens or int(self._rng.integers(1, 48)),
            "n": int(self._rng.choice([1, 1, 1, 2])),
            "ignore_eos": True,
            "stream": stream,
        }

    async def _answer(self) -> None:
        answer = await self._http.post("/v1/completions", json=self._body(stream=False))
        self.outcome.note("answer", answer.status_code, {200, 404})

    async def _stream(self) -> None:
        await self._read("stream", self._body(stream=True), None)

    async def _leave(self) -> None:
        body = self._body(stream=True, num_tokens=64)
        await self._read("leave", body, int(self._rng.integers(1, 20)))

    async def _leave_early(self) -> None:
        """Hang up at any moment, before there is an answer too."""
        try:
            async with asyncio.timeout(float(self._rng.exponential(0.02))):
                await self._read("leave early", self._body(stream=True, num_tokens=64), None)
        except TimeoutError:
            self.outcome.note("leave early", "left")

    async def _deadline(self) -> None:
        """Ask for more than the time allows."""
        await self._read("deadline", self._body(stream=True, num_tokens=self._late_tokens), None)

    async def _read(self, action: str, body: dict[str, Any], max_events: int | None) -> None:
        num_events, text = 0, ""
        async with self._http.stream("POST", "/v1/completions", json=body) as answer:
            async for text in answer.aiter_lines():
                num_events += bool(text)
                if max_events is not None and num_events >= max_events:
                    break
                if text == "data: [DONE]":
                    break
        self.outcome.note(action, answer.status_code, {200, 404})
        if answer.status_code == 200 and max_events is None and text != "data: [DONE]":
            self.outcome.wrong.append(f"{action}: a stream ended with {text[:200]!r}")

    async def _publish(self) -> None:
        weights, config = self._uploads[int(self._rng.integers(len(self._uploads)))]
        files = {"weights": ("a.safetensors", weights), "config": ("c.json", config)}
        answer = await self._http.put(f"/v1/adapters/{self._name()}", files=files)
        self.outcome.note("publish", answer.status_code, {200, 201})

    async def _rollback(self) -> None:
        answer = await self._http.post(f"/v1/adapters/{self._name()}/rollback")
        self.outcome.note("rollback", answer.status_code, {200, 201, 400, 404})

    async def _delete(self) -> None:
        answer = await self._http.delete(f"/v1/adapters/{self._name()}")
        self.outcome.note("delete", answer.status_code, {200, 204, 404})

    async def _prefetch(self) -> None:
        answer = await self._http.post(f"/v1/adapters/{self._name()}/prefetch")
        self.outcome.note("prefetch", answer.status_code, {202, 404})

    async def _list(self) -> None:
        answer = await self._http.get("/v1/models", params={"limit": 100})
        self.outcome.note("list", answer.status_code, {200})

    async def _bad_body(self) -> None:
        body = _BAD_BODIES[int(self._rng.integers(len(_BAD_BODIES)))]
        headers = {"Content-Type": "application/json"}
        answer = await self._http.post("/v1/completions", content=body, headers=headers)
        self.outcome.note("bad body", answer.status_code, {400, 404, 413, 422})

    async def _bad_upload(self) -> None:
        """An upload that is cut off, or has some bytes changed."""
        weights, config = self._uploads[0]
        cut = int(self._rng.integers(len(weights)))
        broken = weights[:cut] if self._rng.random() < 0.5 else self._garbled(weights)
        files = {"weights": ("a.safetensors", broken), "config": ("c.json", config)}
        answer = await self._http.put("/v1/adapters/soak-bad", files=files)
        self.outcome.note("bad upload", answer.status_code, {200, 201, 400, 413})

    def _garbled(self, weights: bytes) -> bytes:
        garbled = bytearray(weights)
        for at in self._rng.integers(0, min(len(garbled), 4096), 16):
            garbled[at] = int(self._rng.integers(256))
        return bytes(garbled)
