"""GET /v1/replicas: all replicas, the silent ones too."""

from collections.abc import Mapping

from contracts.replica import ReplicaReport
from tests.app.parts import CountingReplica, make_client, make_door


async def test_replicas_of_all_models_with_what_they_count() -> None:
    door = make_door(more={"other": CountingReplica(replica_id="r1")})
    async with make_client(door) as client:
        answer = await client.get("/v1/replicas")
    entries = answer.json()["data"]
    assert [(each["id"], each["model"], each["answers"]) for each in entries] == [
        ("r0", "tiny", True),
        ("r1", "other", True),
    ]
    assert (answer.json()["first_id"], answer.json()["has_more"]) == ("r0", False)


async def test_a_replica_that_is_known_and_does_not_answer_is_there() -> None:
    replica = CountingReplica()
    replica.ready = False
    door = make_door(replica, metrics_timeout_s=0.02)

    def reports() -> Mapping[str, ReplicaReport | None]:
        return {"lost": ReplicaReport(1, 9, 1, (5,)), "new": None}

    door.models["tiny"].dispatcher.reports = reports  # type: ignore[method-assign]
    async with make_client(door) as client:
        entries = (await client.get("/v1/replicas")).json()["data"]
    assert [(each["id"], each["answers"], each["load_tokens"]) for each in entries] == [
        ("lost", False, 9),
        ("new", False, None),
    ]
