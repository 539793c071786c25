from hypothesis import given
from hypothesis import strategies as st

from loadtest.prompts import text, token_ids
from tests.loadtest.loads import make_ask

IDS = range(10, 200)
blocks = st.lists(st.integers(0, 1000), max_size=4).map(tuple)


@given(st.integers(1, 300), blocks, st.integers(0, 1 << 31), st.integers(1, 80))
def test_prompts_are_as_long_as_asked_and_of_valid_ids(
    length: int, shared: tuple[int, ...], seed: int, block_tokens: int
) -> None:
    ask = make_ask(num_prompt_tokens=length, blocks=shared, seed=seed)
    found = token_ids(ask, block_tokens, IDS)
    assert len(found) == length
    assert set(found) <= set(IDS)
    assert found == token_ids(ask, block_tokens, IDS)
    assert len(text(found).split()) == length


def test_equal_blocks_are_a_shared_prefix_and_the_rest_differs() -> None:
    one, other = (
        token_ids(make_ask(num_prompt_tokens=100, blocks=(1, 2, last), seed=last), 16, IDS)
        for last in (3, 4)
    )
    assert one[:32] == other[:32]
    assert one[32:] != other[32:]
    assert one[48:] != other[48:]


def test_a_prompt_is_never_all_prefix() -> None:
    one, other = (
        token_ids(make_ask(num_prompt_tokens=20, blocks=(1, 2), seed=seed), 64, IDS)
        for seed in (1, 2)
    )
    assert one[:10] == other[:10]
    assert one[10:] != other[10:]
