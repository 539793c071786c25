from dataclasses import FrozenInstanceError
from typing import Any

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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora_rank": 4}, r"lora_rank is one of \(0, 1, 8, 16, .*, not 4"),
        ({"lora_rank": -1}, "lora_rank is one of"),
        ({"lora_slots": 0}, "lora_slots must be at least 1"),
        (
            {"lora_rank": 8, "tensor_parallel_size": 2, "num_gpus": 2},
            "lora_rank 8 needs tensor_parallel_size 1, not 2",
        ),
    ],
)
def test_lora_settings_that_no_engine_has(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReplicaConfig("m", **changes)


def test_the_settings_stay_as_they_are() -> None:
    with pytest.raises(FrozenInstanceError):
        ReplicaConfig("m").num_slots = 1  # type: ignore[misc]


def test_the_echo_engine_does_not_go_back_in_time() -> None:
    with pytest.raises(ValueError, match="echo_step_s"):
        ReplicaConfig("m", echo_step_s=-1.0)


@pytest.mark.parametrize(
    ("num_slots", "max_num_seqs", "reserved_seqs", "expected"),
    [(128, 64, None, 80), (128, 16, None, 24), (8, 8, None, 8), (9, 1, None, 2), (64, 16, 0, 16)],
)
def test_sequences_in_reserve(
    num_slots: int, max_num_seqs: int, reserved_seqs: int | None, expected: int
) -> None:
    config = ReplicaConfig(
        "m", num_slots=num_slots, max_num_seqs=max_num_seqs, reserved_seqs=reserved_seqs
    )
    assert config.max_running_seqs == expected
    assert config.fair_limits.max_running_seqs == expected


def test_without_the_fair_queue_nothing_waits_in_front_of_the_engine() -> None:
    limits = ReplicaConfig("m", fair_queue=False).fair_limits
    assert min(limits.max_num_seqs, limits.max_prefill_tokens) > 1 << 40


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("reserved_seqs", -1),
        ("reserved_seqs", 100),
        ("max_prefill_tokens", 0),
        ("max_waiting", 0),
        ("held_share", 1.1),
        ("active_s", -1.0),
    ],
)
def test_limits_of_the_queue_that_cannot_be(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        ReplicaConfig("m", **{name: value})


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("num_gpus", {"num_gpus": -0.5}),
        ("num_gpus", {"num_gpus": 1.5}),
        ("num_gpus", {"num_gpus": float("nan")}),
        ("num_cpus", {"num_cpus": -1.0}),
        ("tensor_parallel_size", {"tensor_parallel_size": 0}),
        ("tensor_parallel_size", {"tensor_parallel_size": 2, "num_gpus": 1.0}),
        ("tensor_parallel_size", {"tensor_parallel_size": 2, "num_gpus": 4.0}),
    ],
)
def test_devices_that_cannot_be(name: str, values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{name}"):
        ReplicaConfig("m", **values)


@pytest.mark.parametrize("num_gpus", [0.0, 0.25, 1.0, 3.0])
def test_a_share_of_a_gpu_or_whole_ones(num_gpus: float) -> None:
    assert ReplicaConfig("m", num_gpus=num_gpus).num_gpus == num_gpus
    assert ReplicaConfig("m", tensor_parallel_size=3, num_gpus=3.0).tensor_parallel_size == 3


def test_a_model_may_be_shared_without_gpus() -> None:
    assert ReplicaConfig("m", tensor_parallel_size=2).num_gpus is None
