"""How many uploads a door takes at a time, whichever way they come."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from contracts.errors import Overloaded

_PLACES_PER_COMPILING = 16


class UploadPlaces:
    """Room for uploads that are read, of which `max_parallel` are compiled (`compiling`)."""

    def __init__(self, max_parallel: int) -> None:
        self.compiling = asyncio.Semaphore(max_parallel)
        self.num_taken = 0
        self._num_places = _PLACES_PER_COMPILING * max_parallel

    def __repr__(self) -> str:
        return f"UploadPlaces(taken={self.num_taken} of {self._num_places})"

    @contextmanager
    def take(self) -> Iterator[None]:
        """A place from the first byte to the published version. Raises Overloaded."""
        if self.num_taken >= self._num_places:
            raise Overloaded("Too many uploads at a time.")
        self.num_taken += 1
        try:
            yield
        finally:
            self.num_taken -= 1
