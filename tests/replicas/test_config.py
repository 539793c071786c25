from dataclasses import FrozenInstanceError

import pytest

from replicas.config import ReplicaConfig


def test_slots_never_decide_who_may_run() -> None:
    assert ReplicaConfig("m", num_slots=8, max_num_seqs=8).num_slots == 8
    with pytest.raises(ValueError, match=r"num_slots \(7\) must be at least max_num_seqs \(8\)"):
        ReplicaConfig("m", num_slots=7, max_num_seqs=8)


@pytest.mark.parametrize("max_rank", [0, -1])
def test_there_is_room_for_one_pair(max_rank: int) -> None:
    with pytest.raises(ValueError, match="max_rank"):
        ReplicaConfig("m", max_rank=max_rank)


def test_the_settings_stay_as_they_are() -> None:
    with pytest.raises(FrozenInstanceError):
        ReplicaConfig("m").num_slots = 1  # type: ignore[misc]


def test_the_echo_engine_does_not_go_back_in_time() -> None:
    with pytest.raises(ValueError, match="echo_step_s"):
        ReplicaConfig("m", echo_step_s=-1.0)
