"""Ray Serve's way of asking which replica gets a call: the caller has said so already.

The window is decided as a whole before any call is made, so what is left here is to find the
replica that the call names, and to pass on what Serve says of all replicas.
"""

from collections import deque
from typing import Any

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from contracts.replica import ReplicaReport
from routing.members import members_of

_MAX_DIED = 1024


class NamedReplicaRouter(RequestRouter):
    """A call whose session id is a replica's id goes there; any other call to the least busy.

    A named replica that is gone is replaced by another: the caller follows its tokens by the
    number of its call, wherever they come from.
    """

    def initialize_state(self, **kwargs: Any) -> None:
        """Nothing of the settings matters here: the process's members are told."""
        self._by_id: dict[str, RunningReplica] = {}
        self._died: deque[str] = deque(maxlen=_MAX_DIED)
        self._members = members_of(self._deployment_id.name)

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Serve has news of the replicas, their reports among it."""
        super().update_replicas(replicas)
        self._by_id = {replica.replica_id.unique_id: replica for replica in replicas}
        self._tell()

    def on_replica_actor_died(self, replica_id: ReplicaID) -> None:
        """A call has found its replica dead; Serve's own news of it comes later."""
        super().on_replica_actor_died(replica_id)
        if self._by_id.pop(replica_id.unique_id, None) is not None:
            self._died.append(replica_id.unique_id)
            self._tell()

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """See RequestRouter."""
        if pending_request is not None:
            named = self._by_id.get(pending_request.metadata.session_id)
            if named is not None:
                return [[named]]
        return [list(candidate_replicas)]

    def _tell(self) -> None:
        self._members.tell(
            {
                replica_id: ReplicaReport.from_stats(replica.routing_stats)
                for replica_id, replica in self._by_id.items()
            },
            self._died,
        )
