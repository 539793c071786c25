"""What is left of a request when its replica is lost."""

from hypothesis import given
from hypothesis import strategies as st

from app.trip import MAX_STRIKES, Trip
from contracts.adapters import BASE
from contracts.errors import EngineFailed, InvalidRequest
from contracts.generation import GenerateRequest, Sampling, TokenDelta, TokenLogprob

LOST = EngineFailed("lost")


def make_trip(n: int = 1, max_tokens: int = 10, **sampling: int) -> Trip:
    request = GenerateRequest("a", BASE, (1, 2, 3), Sampling(max_tokens, n=n, **sampling))  # type: ignore[arg-type]
    return Trip.first(4, request)


def token(number: int, choice: int = 0, **changes: object) -> TokenDelta:
    return TokenDelta(0, choice, (number,), f"{number} ", **changes)  # type: ignore[arg-type]


def again(trip: Trip, *, is_planned: bool = False) -> list[Trip]:
    lost = trip.lost(LOST, 16, is_planned=is_planned)
    assert lost.last is None
    assert trip.is_over
    return lost.trips


def test_a_request_without_tokens_goes_again_as_it_was() -> None:
    (trip,) = again(make_trip(n=3, prompt_logprobs=2, seed=7))
    assert trip.request.sampling == Sampling(10, n=3, prompt_logprobs=2, seed=7)
    assert trip.request.resumed_token_ids == ()
    assert trip.request.request_id == "a~1.0"
    assert trip.choices == (0, 1, 2)


def test_what_has_come_is_not_asked_for_again() -> None:
    trip = make_trip(prompt_logprobs=1)
    first = token(5, prompt_logprobs=(None, TokenLogprob(2, "", -1.0)))
    assert trip.take(first) == TokenDelta(4, 0, (5,), "5 ", prompt_logprobs=first.prompt_logprobs)
    (next_trip,) = again(trip)
    assert next_trip.request.resumed_token_ids == (5,)
    assert next_trip.request.sampling == Sampling(10)
    assert next_trip.request.prompt_token_ids == (1, 2, 3)


def test_choices_that_stand_apart_go_on_apart() -> None:
    trip = make_trip(n=3, seed=7, prompt_logprobs=1)
    trip.take(token(5, 1))
    trip.take(token(6, 1))
    trip.take(token(8, 2, finish_reason="stop"))
    first, second = again(trip)
    assert (first.choices, first.request.resumed_token_ids) == ((0,), ())
    assert (second.choices, second.request.resumed_token_ids) == ((1,), (5, 6))
    assert (first.request.sampling.seed, second.request.sampling.seed) == (7, 8)
    # The prompt's log-probabilities come with the first choice, which has not begun.
    assert first.request.sampling.prompt_logprobs == 1
    assert second.request.sampling.prompt_logprobs is None
    assert first.request.request_id != second.request.request_id
    assert second.take(token(9)) == TokenDelta(4, 1, (9,), "9 ")


def test_what_the_client_has_resumed_is_carried_on() -> None:
    request = GenerateRequest("a", BASE, (1, 2), Sampling(9, seed=7), resumed_token_ids=(5, 6))
    (fresh,) = again(Trip.first(0, request))
    assert fresh.request.resumed_token_ids == (5, 6)
    fresh.take(token(8))
    (trip,) = again(fresh)
    assert trip.request.resumed_token_ids == (5, 6, 8)
    assert trip.request.sampling == Sampling(9, seed=7)


def test_two_losses_without_a_token_between_are_enough() -> None:
    trip = make_trip()
    trip.take(TokenDelta(0, entered=True))
    (trip,) = again(trip)
    trip.take(TokenDelta(0, entered=True))
    lost = trip.lost(LOST, 16, is_planned=False)
    assert not lost.trips
    assert lost.last is not None
    assert isinstance(lost.last.error, EngineFailed)
    assert f"{MAX_STRIKES} times" in lost.last.error.message


def test_a_token_proves_that_the_request_is_harmless() -> None:
    trip = make_trip(max_tokens=100)
    for number in range(10):
        trip.take(TokenDelta(0, entered=True))
        trip.take(token(number))
        (trip,) = again(trip)
    assert trip.request.resumed_token_ids == tuple(range(10))


def test_who_never_entered_an_engine_and_who_was_drained_is_not_to_blame() -> None:
    trip = make_trip()
    for _ in range(5):
        (trip,) = again(trip)
    for _ in range(5):
        trip.take(TokenDelta(0, entered=True))
        (trip,) = again(trip, is_planned=True)
    assert trip.attempt == 10


def test_who_got_a_token_there_did_not_kill_the_engine_on_entry() -> None:
    trip = make_trip()
    trip.take(TokenDelta(0, entered=True))
    trip.take(token(1))
    (trip,) = again(trip)
    assert trip.strikes == 0
    trip.take(TokenDelta(0, entered=True))
    (trip,) = again(trip)
    assert trip.strikes == 1


def test_attempts_are_bounded() -> None:
    lost = make_trip().lost(LOST, 1, is_planned=False)
    assert lost.last == TokenDelta(4, error=LOST)


def test_a_cancelled_request_goes_nowhere() -> None:
    trip = make_trip()
    trip.is_cancelled = True
    assert trip.lost(LOST, 16, is_planned=False).trips == []


def test_an_error_of_the_request_is_the_end() -> None:
    trip, error = make_trip(n=2), InvalidRequest("no")
    assert trip.take(TokenDelta(0, error=error)) == TokenDelta(4, error=error)
    assert trip.is_over
    assert trip.num_tokens_left == 0


@given(st.lists(st.lists(st.integers(0, 50), max_size=6), min_size=1, max_size=6))
def test_all_tokens_are_carried_on_once(runs: list[list[int]]) -> None:
    trip = make_trip(max_tokens=100)
    told: list[int] = []
    for run in runs:
        for number in run:
            delta = trip.take(token(number))
            assert delta is not None
            told += delta.token_ids
        (trip,) = again(trip, is_planned=True)
        assert trip.request.resumed_token_ids == tuple(told)
        assert trip.request.sampling.max_tokens == 100
        assert trip.num_tokens_left > 0
