"""Which replicas there are: told by Ray Serve's router, asked by the door of the same process."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from contracts.replica import ReplicaReport


@dataclass(frozen=True, slots=True)
class Told:
    """What was told of a moment: the members by id, each with its last report, and who has died
    rather than gone. `version` changes with every telling.
    """

    version: int = 0
    reports: Mapping[str, ReplicaReport | None] = field(default_factory=dict)
    died: Collection[str] = ()


class Members:
    """One thread tells, another may ask."""

    def __init__(self) -> None:
        self._told = Told()

    def tell(self, reports: Mapping[str, ReplicaReport | None], died: Collection[str] = ()) -> None:
        """These are all there are."""
        self._told = Told(self._told.version + 1, dict(reports), tuple(died))

    def told(self) -> Told:
        """What was told last."""
        return self._told


_BY_DEPLOYMENT: dict[str, Members] = {}


def members_of(deployment: str) -> Members:
    """The members of a deployment as this process knows them; none until its router starts."""
    return _BY_DEPLOYMENT.setdefault(deployment, Members())
