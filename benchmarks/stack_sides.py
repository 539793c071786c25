"""Who answers the same load in `flora bench stack`: the engine alone, or a server over the wire."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from benchmarks.streaming_client import Answer, Ask
from benchmarks.vllm_methods import Load, Method

NUM_ADAPTERS = 32
LONE_LOAD = Load(1, 1, num_prompt_tokens=8, num_output_tokens=2)

_OTHER = 1 << 20

AskTogether = Callable[[str, Sequence[Ask]], Awaitable[tuple[list[Answer], float]]]
"""Sends all asks at once to an address; the answers, and the seconds until the last one ended."""


@dataclass(frozen=True, slots=True)
class Pass:
    """What one load gave: all tokens over the time until the last, and each first token's time."""

    tokens_per_s: float
    ttfts_s: tuple[float, ...]


class Side(Protocol):
    """One of those that are compared."""

    name: str

    async def run(self, load: Load, seed: int) -> Pass:
        """Answer `load` once, with prompts of their own for each seed."""
        ...


class EngineSide:
    """The engine in this process, without streams for its speed and with them for first tokens."""

    name = "engine"

    def __init__(self, method: Method) -> None:
        self._method = method

    async def run(self, load: Load, seed: int) -> Pass:
        """See Side."""
        speed = await self._method.tokens_per_s(load, seed)
        return Pass(speed, tuple(await self.ttfts_s(load, seed + _OTHER)))

    async def ttfts_s(self, load: Load, seed: int) -> list[float]:
        """When the first tokens came, and nothing more."""
        return await self._method.ttfts_s(load, seed)


class ServerSide:
    """A server at `address` that knows `models`, asked by `ask_together`."""

    def __init__(
        self, name: str, address: str, models: Sequence[str], ask_together: AskTogether
    ) -> None:
        self.name = name
        self._address = address
        self.models = models
        self._ask_together = ask_together

    async def run(self, load: Load, seed: int) -> Pass:
        """See Side. Raises RuntimeError where an answer is not as long as it should be."""
        asks = [
            Ask(self.models[i % len(self.models)], tuple(prompt), load.num_output_tokens)
            for i, prompt in enumerate(load.prompts(seed))
        ]
        answers, elapsed_s = await self._ask_together(self._address, asks)
        counts = {answer.num_tokens for answer in answers}
        if counts != {load.num_output_tokens}:
            raise RuntimeError(f"{self.name}: answers of {counts} tokens")
        num_tokens = load.num_sequences * load.num_output_tokens
        return Pass(num_tokens / elapsed_s, tuple(answer.ttft_s for answer in answers))
