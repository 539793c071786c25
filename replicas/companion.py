"""What works beside a replica's requests."""

from contracts.adapters import AdapterKey


class Companion:
    """Told of every use of an adapter. Does nothing; subclasses do what they are for.

    Nothing here raises, and `began` and `ended` never wait: requests go through them.
    """

    async def start(self) -> None:
        """The engine runs; the replica is ready when all companions have started."""

    def began(self, key: AdapterKey) -> None:
        """A request for an adapter has come in. `ended` follows, once for each."""

    def ended(self, key: AdapterKey) -> None:
        """The request holds nothing any more, however it ended."""

    async def stop(self) -> None:
        """The replica stops; nothing runs on afterwards."""
