"""One HTTP request's tokens: the streams of its prompts as one. Knows nothing of HTTP."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from app.answer_format import Collected, Usage
from app.quota import Standing, tightest
from app.token_stream import TokenStream
from contracts.adapters import AdapterKey
from contracts.errors import ServingError
from contracts.generation import TokenDelta

Burst = tuple[int, list[TokenDelta]]
"""The prompt's place in the request, and what has newly arrived for it."""


class Answer:
    """Reads all streams of a request to their end and counts tokens on the way.

    Choice j of prompt p is choice p * n + j of the answer. An answer in one piece keeps the
    `num_kept` most probable choices of each prompt, None all of them. `num_input_tokens` are those
    that the engine reads: of all prompts, and of answers that are resumed.
    """

    def __init__(
        self,
        streams: Sequence[TokenStream],
        n: int,
        num_input_tokens: int,
        num_kept: int | None = None,
    ) -> None:
        self._streams = streams
        self._n = n
        self._num_kept = num_kept or n
        self.usage = Usage(num_input_tokens)
        self._bursts = self._one() if len(streams) == 1 else self._merged()

    @property
    def num_choices(self) -> int:
        return len(self._streams) * self._n

    @property
    def adapter(self) -> AdapterKey | None:
        """The version that answers; None until the first burst or error is there."""
        return self._streams[0].adapter

    def choice(self, prompt: int, delta: TokenDelta) -> int:
        """The index under which the client knows the choice that `delta` belongs to."""
        return prompt * self._n + delta.choice

    async def next(self) -> Burst | None:
        """The next burst; None at the end. Raises the ServingError that ended the request."""
        burst = await anext(self._bursts, None)
        if burst is not None:
            self.usage.count(burst[1])
        return burst

    async def collect(self) -> list[Collected]:
        """Everything, by choice. Raises the ServingError that ended the request."""
        choices = [Collected() for _ in range(self.num_choices)]
        while (burst := await self.next()) is not None:
            for delta in burst[1]:
                choices[self.choice(burst[0], delta)].deltas.append(delta)
        return choices if self._num_kept == self._n else self._best(choices)

    def _best(self, choices: Sequence[Collected]) -> list[Collected]:
        prompts = [choices[i : i + self._n] for i in range(0, len(choices), self._n)]
        ranked = [sorted(tries, key=lambda c: c.mean_logprob, reverse=True) for tries in prompts]
        return [choice for tries in ranked for choice in tries[: self._num_kept]]

    @property
    def standing(self) -> Standing | None:
        """What the caller's key has left; known before the first token."""
        return tightest(stream.standing for stream in self._streams)

    def expire(self, error: ServingError) -> None:
        """Stop whatever still runs; the reader gets `error`."""
        for stream in self._streams:
            stream.expire(error)

    def close(self) -> None:
        """Stop whatever still runs; safe at any time and more than once."""
        for stream in self._streams:
            stream.close()

    async def _one(self) -> AsyncIterator[Burst]:
        async for deltas in self._streams[0]:
            yield 0, deltas

    async def _merged(self) -> AsyncIterator[Burst]:
        arrived: asyncio.Queue[Burst | ServingError | None] = asyncio.Queue()

        async def read(prompt: int, stream: TokenStream) -> None:
            try:
                async for deltas in stream:
                    arrived.put_nowait((prompt, deltas))
                arrived.put_nowait(None)
            except ServingError as error:
                arrived.put_nowait(error)

        readers = [asyncio.ensure_future(read(i, s)) for i, s in enumerate(self._streams)]
        try:
            num_open = len(readers)
            while num_open:
                item = await arrived.get()
                if isinstance(item, ServingError):
                    raise item
                if item is None:
                    num_open -= 1
                else:
                    yield item
        finally:
            for reader in readers:
                reader.cancel()
