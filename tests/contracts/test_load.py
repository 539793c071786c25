from hypothesis import given
from hypothesis import strategies as st

from contracts.adapters import BASE
from contracts.generation import GenerateRequest, Sampling
from contracts.load import EXPECTED_TOKENS, TokensLeft


def make_request(num_prompt: int, max_tokens: int, n: int = 1, resumed: int = 0) -> GenerateRequest:
    sampling = Sampling(max_tokens, n=n)
    return GenerateRequest("q", BASE, (1,) * num_prompt, sampling, resumed_token_ids=(2,) * resumed)


def test_a_prompt_is_work_until_the_first_token() -> None:
    left = TokensLeft(make_request(100, 20, n=2))
    assert left.num_tokens == 140
    assert left.take(1) == 101
    assert left.num_tokens == 39


def test_long_answers_are_expected_to_end() -> None:
    assert TokensLeft(make_request(1, 100_000)).num_tokens == 1 + EXPECTED_TOKENS


def test_what_is_resumed_is_read_again_and_not_made_again() -> None:
    assert TokensLeft(make_request(10, 50, resumed=20)).num_tokens == 30 + 30


@given(
    st.integers(1, 50),
    st.integers(1, 600),
    st.integers(1, 3),
    st.lists(st.integers(0, 90), max_size=12),
)
def test_what_is_taken_is_what_is_missing(
    num_prompt: int, max_tokens: int, n: int, steps: list[int]
) -> None:
    left = TokensLeft(make_request(num_prompt, max_tokens, n))
    whole = left.num_tokens
    taken = sum(left.take(number) for number in steps)
    assert whole - taken == left.num_tokens >= 1
