import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.rendezvous import Words, heaviest, weights, word_of

_RNG = random.Random(0)
ADAPTERS = [_RNG.getrandbits(64) for _ in range(2000)]
MASK = 0xFFFFFFFF

words64 = st.integers(0, 2**64 - 1)
words32 = st.integers(0, MASK)
fleets = st.sets(st.text(max_size=8), min_size=2, max_size=12).map(sorted)


def slow_weight(adapter: int, replica: int) -> int:
    """MurmurHash3's last step, of both words in one."""
    mixed = (adapter % 2**32) ^ (adapter // 2**32) ^ replica
    mixed ^= mixed >> 16
    mixed = mixed * 0x85EBCA6B & MASK
    mixed ^= mixed >> 13
    mixed = mixed * 0xC2B2AE35 & MASK
    return mixed ^ mixed >> 16


def make_words(ids: list[str]) -> Words:
    return np.array([word_of(replica_id) for replica_id in ids], np.uint32)


def first_homes(ids: list[str]) -> list[str]:
    """The first home of each of `ADAPTERS`."""
    drawn = weights(ADAPTERS, make_words(ids))
    return [ids[heaviest(row, 1)[0]] for row in drawn]


def most(num: int, chance: float) -> float:
    """More than so many of `num` happen once in 10^9: mean and six standard deviations."""
    return float(num * chance + 6 * (num * chance * (1 - chance)) ** 0.5)


@given(st.lists(words64, max_size=5), st.lists(words32, max_size=5))
def test_weights_are_those_of_the_definition(adapters: list[int], replicas: list[int]) -> None:
    drawn = weights(adapters, np.array(replicas, np.uint32))
    assert drawn.shape == (len(adapters), len(replicas))
    assert drawn.tolist() == [[slow_weight(a, r) for r in replicas] for a in adapters]


def test_weights_are_the_same_on_every_door_and_in_every_release() -> None:
    assert [word_of("replica-1"), word_of("")] == [3372128502, 634351890]
    assert weights([2**63 + 1], np.array([7], np.uint32)).tolist() == [[2196002715]]


@given(words64, st.lists(words32, unique=True, max_size=50))
def test_replicas_with_words_of_their_own_never_draw_alike(
    adapter: int, replicas: list[int]
) -> None:
    assert len(set(weights([adapter], np.array(replicas, np.uint32))[0].tolist())) == len(replicas)


@given(st.lists(words32, unique=True, min_size=1, max_size=40), st.integers(1, 50))
def test_the_heaviest_are_the_first_of_all_sorted(drawn: list[int], number: int) -> None:
    expected = sorted(range(len(drawn)), key=lambda place: -drawn[place])[:number]
    assert heaviest(np.array(drawn, np.uint32), number) == expected


@given(words64, fleets)
def test_few_homes_are_the_first_of_more_homes(adapter: int, ids: list[str]) -> None:
    drawn = weights([adapter], make_words(ids))[0]
    ranked = heaviest(drawn, len(ids))
    assert sorted(ranked) == list(range(len(ids)))
    for number in range(1, len(ids)):
        assert heaviest(drawn, number) == ranked[:number]


@given(fleets, st.data())
def test_a_new_replica_takes_its_share_and_moves_nothing_else(
    ids: list[str], data: st.DataObject
) -> None:
    new = data.draw(st.sampled_from(ids))
    old = [replica_id for replica_id in ids if replica_id != new]
    before, after = first_homes(old), first_homes(ids)
    moved = [after[i] for i in range(len(ADAPTERS)) if before[i] != after[i]]
    assert all(home == new for home in moved)
    assert len(ADAPTERS) - most(len(ADAPTERS), 1 - 1 / len(ids)) <= len(moved)
    assert len(moved) <= most(len(ADAPTERS), 1 / len(ids))


@given(fleets, st.data())
def test_a_replica_that_goes_leaves_what_it_had_and_moves_nothing_else(
    ids: list[str], data: st.DataObject
) -> None:
    gone = data.draw(st.sampled_from(ids))
    left = [replica_id for replica_id in ids if replica_id != gone]
    for before, after in zip(first_homes(ids), first_homes(left), strict=True):
        assert before in (after, gone)


@given(fleets, st.randoms(use_true_random=False))
def test_homes_do_not_depend_on_the_order_of_replicas(ids: list[str], rng: random.Random) -> None:
    assert first_homes(ids) == first_homes(rng.sample(ids, len(ids)))


@pytest.mark.parametrize("adapters", ["random", "in a row"])
def test_homes_are_spread_evenly(adapters: str) -> None:
    num_adapters, num_replicas = 100_000, 100
    rng = random.Random(1)
    names = [rng.getrandbits(64) if adapters == "random" else n for n in range(num_adapters)]
    drawn = weights(names, make_words([f"replica-{n}" for n in range(num_replicas)]))
    found = Counter(drawn.argmax(axis=1).tolist())
    mean = num_adapters / num_replicas
    chi_square = sum((found[n] - mean) ** 2 / mean for n in range(num_replicas))
    freedom = num_replicas - 1
    assert chi_square < freedom + 6 * (2 * freedom) ** 0.5
