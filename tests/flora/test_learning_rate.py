"""The schedule's shape, and that it ends with its own adapter."""

import pytest

from flora.learning_rate import LearningRate


def test_warm_up_then_cosine() -> None:
    rate = LearningRate(2.0, 4, (20,))
    rates = [rate.at(0, step) for step in range(21)]
    assert rates[:5] == [0.5, 1.0, 1.5, 2.0, 2.0]
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[20] == pytest.approx(0)


def test_constant() -> None:
    rate = LearningRate(2.0, 0, (20,), "constant")
    assert {rate.at(0, step) for step in range(20)} == {2.0}


def test_each_adapter_ends_at_its_own_last_step() -> None:
    rate, alone = LearningRate(1.0, 2, (20, 6)), LearningRate(1.0, 2, (6,))
    assert rate.at(1, 6) == pytest.approx(0)
    assert rate.at(0, 6) > 0.8
    assert [rate.at(1, step) for step in range(7)] == [alone.at(0, step) for step in range(7)]


def test_a_run_that_is_shorter_than_its_warm_up() -> None:
    rate = LearningRate(1.0, 10, (3,))
    assert [rate.at(0, step) for step in range(3)] == pytest.approx([0.1, 0.2, 0.3])
