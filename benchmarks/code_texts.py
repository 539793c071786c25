"""Programs in languages that a small model knows little of, in blocks of tokens to learn from.

MBXP (Athiwaratkun et al., ICLR 2023; CC BY 4.0): prompt and solution. Exercism (MIT): the solution.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

SOURCES = {
    "perl": ("mbxp_code_pairs/mbxp-perl.jsonl", "exercism_code_pairs/exercism-perl.jsonl"),
    "ruby": ("mbxp_code_pairs/mbxp-ruby.jsonl", "exercism_code_pairs/exercism-ruby.jsonl"),
    "lua": ("exercism_code_pairs/exercism-lua.jsonl",),
    "d": ("exercism_code_pairs/exercism-d.jsonl",),
    "rust": ("exercism_code_pairs/exercism-rust.jsonl",),
    "racket": ("exercism_code_pairs/exercism-racket.jsonl",),
}
_SPLIT_SEED = 0


@dataclass(frozen=True, slots=True)
class Blocks:
    """`ids`, int64 [blocks, length + 1]: a block's last token is the next one's first.

    `num_bytes` are those of the text that is predicted: all tokens but each block's first.
    """

    ids: torch.Tensor
    num_bytes: int


@dataclass(frozen=True, slots=True)
class CodeTexts:
    """Programs of one language; no program is in two parts."""

    train: Blocks
    validation: Blocks
    test: Blocks


def read_code(
    folder: Path, language: str, tokenizer: Any, length_tokens: int, max_heldout_blocks: int
) -> CodeTexts:
    """70 % of the programs to learn from, 15 % to choose by, 15 % to judge by; the same always."""
    texts = [text for source in SOURCES[language] for text in _texts(folder / source)]
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(texts))
    shuffled = [texts[i] for i in order]
    ends = (round(0.7 * len(texts)), round(0.85 * len(texts)))
    heldout = (shuffled[ends[0] : ends[1]], shuffled[ends[1] :])
    train = _blocks(shuffled[: ends[0]], tokenizer, length_tokens, None)
    parts = [_blocks(part, tokenizer, length_tokens, max_heldout_blocks) for part in heldout]
    return CodeTexts(train, *parts)


def _texts(path: Path) -> list[str]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row.get("prompt", "") + row["solution"] for row in rows]


def _blocks(
    texts: Sequence[str], tokenizer: Any, length_tokens: int, at_most: int | None
) -> Blocks:
    end = tokenizer.eos_token_id
    ids = [end]
    for text in texts:
        ids += [*tokenizer(text, add_special_tokens=False)["input_ids"], end]
    num_blocks = (len(ids) - 1) // length_tokens
    num_blocks = min(num_blocks, at_most or num_blocks)
    used = ids[: num_blocks * length_tokens + 1]
    blocks = torch.tensor(used).unfold(0, length_tokens + 1, length_tokens).contiguous()
    predicted = tokenizer.decode([i for i in used[1:] if i != end])
    return Blocks(blocks, len(predicted.encode()))
