"""An answer that is cut anywhere and goes on in an engine is the answer that was never cut."""

import json
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, count
from typing import Any

import pytest
import pytest_asyncio
from transformers import AutoTokenizer

from contracts.adapters import BASE, AdapterKey
from contracts.generation import GenerateRequest, Sampling, Structure, TokenDelta, TokenLogprob
from tests.replicas.engine.models import SMOLLM2
from tests.replicas.engine.parts import Stack, make_adapter, make_config, running

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(300),
    pytest.mark.asyncio(loop_scope="module"),
    # vLLM leaves its sockets' context to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

IDS = count()
BLOCK_TOKENS = 128  # of vLLM's cache on a CPU
TOKENIZER = AutoTokenizer.from_pretrained(SMOLLM2)
GREEDY = Sampling(16, temperature=0.0)
SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 12}, "people": {"type": "integer"}},
        "required": ["city", "people"],
        "additionalProperties": False,
    }
)


@dataclass(frozen=True)
class Case:
    """What is asked, and how."""

    text: str
    sampling: Sampling = GREEDY
    has_adapter: bool = False

    @property
    def prompt(self) -> tuple[int, ...]:
        messages = [{"role": "user", "content": self.text}]
        encoded = TOKENIZER.apply_chat_template(messages, add_generation_prompt=True)
        return tuple(encoded["input_ids"])


def story(**changes: Any) -> Case:
    return Case("Tell me a story about a fox.", replace(GREEDY, **changes))


EMOJI = "Repeat exactly: 👩‍👩‍👧 漢字 🦊🦊"
CASES = {
    "with an adapter": replace(story(), has_adapter=True),
    "log-probabilities": Case(EMOJI, replace(GREEDY, logprobs=2)),
    "log-probabilities of the prompt": story(prompt_logprobs=1),
    "frequency penalty": story(frequency_penalty=1.0),
    "presence penalty": story(presence_penalty=1.5),
    "repetition penalty": story(repetition_penalty=1.5),
    "schema": Case(
        "A city as JSON.",
        replace(GREEDY, max_tokens=30, structure=Structure("json_schema", SCHEMA)),
    ),
    "fewest tokens": story(stop_token_ids=tuple(TOKENIZER.encode(" a")), min_tokens=9),
    "seeded": story(temperature=1.0, seed=7, top_p=0.9),
}
OTHERWISE = (
    "frequency penalty",
    "presence penalty",
    "repetition penalty",
    "fewest tokens",
    "seeded",
)
"""Cases whose sampling must show in the answer."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    config = make_config(SMOLLM2, num_slots=8, max_num_seqs=8, max_model_len_tokens=256)
    async with running(config, tmp_path_factory.mktemp("cache")) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def adapter(stack: Stack) -> AdapterKey:
    return await stack.publish("fox", make_adapter(stack.layout, "rank-1 tied", 0, 0.05))


@dataclass(frozen=True)
class Told:
    """What a client hears of an answer. `texts`: how long it is behind so many tokens, in letters;
    a step may have brought several.
    """

    token_ids: tuple[int, ...]
    text: str
    texts: dict[int, int]
    logprobs: tuple[TokenLogprob, ...]
    prompt_logprobs: tuple[TokenLogprob | None, ...]
    finish_reason: str | None
    stop_reason: str | int | None


def told(deltas: list[TokenDelta]) -> Told:
    num_tokens = accumulate(len(delta.token_ids) for delta in deltas)
    lengths = accumulate(len(delta.text) for delta in deltas)
    return Told(
        tuple(t for delta in deltas for t in delta.token_ids),
        "".join(delta.text for delta in deltas),
        dict(zip(num_tokens, lengths, strict=True)),
        tuple(entry for delta in deltas for entry in delta.logprobs),
        tuple(entry for delta in deltas for entry in delta.prompt_logprobs),
        deltas[-1].finish_reason,
        deltas[-1].stop_reason,
    )


async def ask(
    stack: Stack, case: Case, key: AdapterKey, begun: Sequence[tuple[int, ...]] = ((),)
) -> list[Told]:
    """One group: the same request once for each beginning of its answer."""
    group = tuple(
        GenerateRequest(
            f"r{next(IDS)}", key, case.prompt, case.sampling, resumed_token_ids=token_ids
        )
        for token_ids in begun
    )
    found: list[list[TokenDelta]] = [[] for _ in group]
    async for batch in stack.replica.generate(group):
        for delta in batch.deltas:
            assert delta.error is None
            found[delta.index] += [] if delta.entered else [delta]
    return [told(deltas) for deltas in found]


async def assert_goes_on(
    stack: Stack, case: Case, key: AdapterKey, whole: Told, cuts: Collection[int]
) -> None:
    """Cut behind any of so many tokens, the rest is the rest."""
    cuts = sorted(set(cuts) & (whole.texts.keys() - {len(whole.token_ids)}))
    assert cuts
    rests = await ask(stack, case, key, [whole.token_ids[:cut] for cut in cuts])
    for cut, rest in zip(cuts, rests, strict=True):
        assert rest.token_ids == whole.token_ids[cut:], cut
        assert rest.text == whole.text[whole.texts[cut] :], cut
        assert (rest.finish_reason, rest.stop_reason) == (whole.finish_reason, whole.stop_reason)
        assert shown(rest.logprobs) == shown(whole.logprobs[cut:])
        assert rest.prompt_logprobs == ()  # it came with the first token
        for mine, other in zip(rest.logprobs, whole.logprobs[cut:], strict=True):
            assert mine.logprob == pytest.approx(other.logprob, abs=1e-3)


def shown(logprobs: Sequence[TokenLogprob]) -> list[Any]:
    """All but the numbers."""
    return [(e.token_id, e.token, [top[:2] for top in e.top]) for e in logprobs]


@pytest.mark.parametrize("name", CASES)
async def test_an_answer_goes_on_where_it_was_cut(
    stack: Stack, adapter: AdapterKey, name: str
) -> None:
    case = CASES[name]
    key = adapter if case.has_adapter else BASE
    (whole,) = await ask(stack, case, key)
    num_tokens = len(whole.token_ids)
    cuts = {1, num_tokens // 2, num_tokens // 2 + 1, num_tokens - 2, num_tokens - 1}
    if name in OTHERWISE:
        (plain,) = await ask(stack, Case(case.text), key)
        pairs = zip(whole.token_ids, plain.token_ids, strict=False)
        differ = [i for i, (mine, other) in enumerate(pairs) if mine != other]
        assert differ
        # Here it matters most what the engine knows of the tokens before.
        cuts |= {differ[0]}
    await assert_goes_on(stack, case, key, whole, cuts)


async def test_the_cases_have_what_they_are_about(stack: Stack) -> None:
    (emoji,) = await ask(stack, CASES["log-probabilities"], BASE)
    assert "👩" in emoji.text
    assert len(set(emoji.texts.values())) < len(emoji.texts)  # tokens that end no character
    (prompt,) = await ask(stack, CASES["log-probabilities of the prompt"], BASE)
    assert len(prompt.prompt_logprobs) == len(story().prompt)
    (schema,) = await ask(stack, CASES["schema"], BASE)
    assert json.loads(schema.text).keys() == {"city", "people"}


@pytest.mark.parametrize("include", [False, True])
async def test_a_stop_string_across_the_cut(stack: Stack, include: bool) -> None:
    (plain,) = await ask(stack, story(), BASE)
    pieces = [TOKENIZER.decode([token_id]) for token_id in plain.token_ids]
    first = next(i for i in range(6, 14) if min(map(len, pieces[i : i + 2])) > 2)
    stop = (pieces[first] + pieces[first + 1])[1:-1]
    case = story(stop=(stop,), include_stop_str_in_output=include)
    (whole,) = await ask(stack, case, BASE)
    assert (whole.stop_reason, whole.token_ids) == (stop, plain.token_ids[: first + 2])
    await assert_goes_on(stack, case, BASE, whole, {1, first - 1, first, first + 1})


async def test_a_forbidden_word_across_the_cut(stack: Stack) -> None:
    (plain,) = await ask(stack, story(), BASE)
    words = tuple(TOKENIZER.decode(plain.token_ids[i : i + 2]).strip() for i in range(4, 9))
    case = story(bad_words=words)
    (whole,) = await ask(stack, case, BASE)
    assert whole.token_ids != plain.token_ids
    await assert_goes_on(stack, case, BASE, whole, range(4, 11))


async def test_a_whole_answer_ends_at_once(stack: Stack) -> None:
    (whole,) = await ask(stack, story(), BASE)
    fresh, over = await ask(stack, story(), BASE, [(), whole.token_ids])
    assert (fresh.token_ids, fresh.text) == (whole.token_ids, whole.text)
    assert (over.token_ids, over.text, over.finish_reason) == ((), "", "length")


async def test_a_beginning_that_the_prefix_cache_has(stack: Stack) -> None:
    """The cached block ends behind the prompt, among the tokens that are resumed."""
    words = "the quick brown fox jumps over a lazy dog " * 20
    case = next(
        case
        for case in (Case(words[:end]) for end in range(len(words)))
        if len(case.prompt) == BLOCK_TOKENS - 3
    )
    (whole,) = await ask(stack, case, BASE)
    await assert_goes_on(stack, case, BASE, whole, {2, 3, 4, 9, 15})
