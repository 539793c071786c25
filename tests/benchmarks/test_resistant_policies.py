from benchmarks.resistant_policies import Arc, S3Fifo, TinyLfu


def count_hits(policy: Arc | S3Fifo | TinyLfu, keys: list[int]) -> int:
    return sum(policy.use(key) for key in keys)


def test_one_hit_wonders_pass_by_what_is_used() -> None:
    for make in (S3Fifo, TinyLfu, Arc):
        policy = make(20)
        count_hits(policy, [*range(5)] * 4)
        assert count_hits(policy, [*range(100, 200)]) == 0
        assert count_hits(policy, [*range(5)]) == 5


def test_what_comes_back_soon_after_it_left_is_kept() -> None:
    for make in (S3Fifo, Arc):
        policy = make(20)
        count_hits(policy, [*range(25)])
        assert count_hits(policy, [0, 1]) == 0
        count_hits(policy, [*range(100, 118)])
        assert count_hits(policy, [0, 1]) == 2


def test_what_was_popular_gives_way_after_its_count_is_halved() -> None:
    policy = TinyLfu(20)
    count_hits(policy, [*range(20)] * 15)
    count_hits(policy, [*range(100, 120)] * 45)
    assert count_hits(policy, [*range(100, 120)]) >= 15
