"""Prompts of a wanted length that share what they are to share, as token ids or as words."""

from collections.abc import Sequence

import numpy as np

from loadtest.plan import Ask

BLOCK_TOKENS = 512
"""Of Mooncake's blocks, before `shrink`."""
_TEXT = (
    "the sea and a ship of old men who sail far to see land that no map has where rain falls on"
    " stone houses with red roofs while dogs sleep near the fire until a bell calls all of them"
)
_WORDS = tuple(_TEXT.split(" "))


def token_ids(ask: Ask, block_tokens: int, ids: range) -> list[int]:
    """`ask.num_prompt_tokens` ids out of `ids`.

    Blocks come first, `block_tokens` of each, but never more than half of the prompt: a request
    is never all prefix.
    """
    shared = ask.num_prompt_tokens // 2
    parts = [_draw(ids, block_tokens, block, 1) for block in ask.blocks]
    prefix = [number for part in parts for number in part][:shared]
    return prefix + _draw(ids, ask.num_prompt_tokens - len(prefix), ask.seed, 0)


def text(numbers: Sequence[int]) -> str:
    """As many words as there are numbers, equal for equal ones: about one token each."""
    return " ".join(_WORDS[number % len(_WORDS)] for number in numbers)


def _draw(ids: range, count: int, seed: int, kind: int) -> list[int]:
    rng = np.random.default_rng((seed, kind))
    drawn: list[int] = rng.integers(ids.start, ids.stop, count).tolist()
    return drawn
