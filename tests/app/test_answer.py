from app.answer import Answer
from app.answer_format import fingerprint_of
from app.token_stream import TokenStream
from contracts.adapters import BASE, AdapterKey, Digest, TenantId
from contracts.generation import TokenDelta, TokenLogprob


def stream_of(*choices: tuple[str, float]) -> TokenStream:
    """A stream that is over: each choice has one token of that text and log-probability."""
    stream = TokenStream("r", len(choices))
    for place, (text, logprob) in enumerate(choices):
        logprobs = (TokenLogprob(place, text, logprob),)
        stream.push(TokenDelta(0, place, (place,), text, logprobs, "stop"))
    return stream


async def test_the_best_of_each_prompt_are_kept_best_first() -> None:
    streams = [
        stream_of(("a", -3.0), ("b", -1.0), ("c", -2.0)),
        stream_of(("d", -0.5), ("e", -0.1), ("f", -9.0)),
    ]
    answer = Answer(streams, 3, 4, num_kept=2)
    assert [choice.text for choice in await answer.collect()] == ["b", "c", "e", "d"]
    assert answer.usage.completion_tokens == 6


async def test_all_are_kept_in_their_order_where_none_is_better() -> None:
    answer = Answer([stream_of(("a", -3.0), ("b", -1.0))], 2, 1)
    assert [choice.text for choice in await answer.collect()] == ["a", "b"]


def test_a_fingerprint_is_of_the_bytes() -> None:
    def key(name: str, version: int, digest: str) -> AdapterKey:
        return AdapterKey(TenantId("t"), name, version, Digest(digest), 1)

    one, same, other = key("a", 1, "ab" * 32), key("b", 2, "ab" * 32), key("a", 2, "cd" * 32)
    assert fingerprint_of(one) == fingerprint_of(same) == "fp_" + "ab" * 8
    assert fingerprint_of(other) != fingerprint_of(one)
    assert fingerprint_of(None) == fingerprint_of(BASE) == "fp_base"
