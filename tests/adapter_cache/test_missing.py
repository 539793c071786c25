from hypothesis import given
from hypothesis import strategies as st

from adapter_cache.missing import MissingDigests
from contracts.adapters import Digest
from tests.adapter_cache.tiers import FakeClock

STEPS = st.lists(st.tuples(st.sampled_from(["add", "ask", "wait"]), st.integers(0, 3)), max_size=60)


@given(STEPS, st.integers(0, 5), st.integers(1, 4))
def test_a_digest_is_missing_for_its_time_and_the_oldest_is_forgotten(
    steps: list[tuple[str, int]], ttl_s: int, max_size: int
) -> None:
    clock = FakeClock()
    missing = MissingDigests(ttl_s, max_size, clock)
    added: list[tuple[int, float]] = []
    for step, number in steps:
        digest = Digest(f"{number:064x}")
        if step == "add":
            missing.add(digest)
            added = [each for each in added if each[0] != number] + [(number, clock.now_s)]
        elif step == "wait":
            clock.now_s += number
        else:
            # A model that only forgets by size would forget more than the set that also expires.
            live = {each for each, at_s in added if clock.now_s < at_s + ttl_s}
            newest = {each for each, _ in added[-max_size:]}
            if digest in missing:
                assert number in live
            else:
                assert number not in live & newest
        assert len(missing) <= max_size
