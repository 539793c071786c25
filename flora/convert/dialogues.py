"""What a conversion learns from: prompts, and what the LoRA answers to them. Knows no fLoRA."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from contracts.errors import InvalidRequest

Tokens = list[int]

_MARK = "\N{OBJECT REPLACEMENT CHARACTER}"
"""Stands for the words of a user where only the template around them is wanted."""


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Tokens of which the first `num_given` are the prompt; the rest is compared."""

    token_ids: tuple[int, ...]
    num_given: int


@dataclass(frozen=True, slots=True)
class DialogueBatch:
    """int64 [sequences, tokens], padded on the right; `is_compared` marks what predicts an answer.

    Position t predicts token t + 1.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    is_compared: torch.Tensor


def read_prompts(path: Path, tokenizer: Any, max_tokens: int) -> list[Tokens]:
    """Lines of {"messages"}, {"prompt"} or {"text"}; answers that stand there are not used.

    A text is taken whole. Raises InvalidRequest.
    """
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        prompts = [_prompt(json.loads(line), tokenizer) for line in lines]
    except OSError as error:
        raise InvalidRequest(f"{path}: {error.strerror}", "prompts") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        needed = 'each line needs "messages", "prompt" or "text"'
        raise InvalidRequest(f"{path.name}: {needed}", "prompts") from error
    return [ids[:max_tokens] for ids in prompts if ids]


def own_prompts(
    model: Any, tokenizer: Any, num_prompts: int, max_tokens: int, batch_size: int
) -> list[Tokens]:
    """Prompts that the model makes up: what its chat template lets a user say, else any text.

    Torch's generator has to be seeded. Source of the idea: Xu et al. 2024, "Magpie".
    """
    opening, closing = "", ""
    if tokenizer.chat_template:
        asked = [{"role": "user", "content": _MARK}]
        whole = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        opening, _, closing = str(whole).partition(_MARK)
    start = tokenizer(opening, add_special_tokens=not opening)["input_ids"]
    start = start or [tokenizer.eos_token_id]
    ends = _ids(tokenizer, closing)
    prompts: list[Tokens] = []
    while len(prompts) < num_prompts:
        drawn = _draw(model, tokenizer, [start] * batch_size, max_tokens)
        prompts += [start + _before(said, tokenizer) + ends for said in drawn]
    return prompts[:num_prompts]


def answered(
    model: Any, tokenizer: Any, prompts: Sequence[Tokens], max_tokens: int, batch_size: int
) -> list[Dialogue]:
    """Each prompt with the model's own answer, drawn as it is likely; the order is kept.

    Prompts of like length are answered together. Torch's generator has to be seeded.
    """
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    found: dict[int, Dialogue] = {}
    for begin in range(0, len(order), batch_size):
        chosen = order[begin : begin + batch_size]
        drawn = _draw(model, tokenizer, [prompts[i] for i in chosen], max_tokens)
        for i, said in zip(chosen, drawn, strict=True):
            found[i] = Dialogue((*prompts[i], *said), len(prompts[i]))
    return [found[i] for i in range(len(prompts)) if len(found[i].token_ids) > found[i].num_given]


def collate(dialogues: Sequence[Dialogue]) -> DialogueBatch:
    """One batch of them."""
    length = max(len(dialogue.token_ids) for dialogue in dialogues)
    ids = torch.zeros(len(dialogues), length, dtype=torch.long)
    mask, compared = torch.zeros_like(ids), torch.zeros(len(dialogues), length, dtype=torch.bool)
    for row, dialogue in enumerate(dialogues):
        n = len(dialogue.token_ids)
        ids[row, :n] = torch.tensor(dialogue.token_ids)
        mask[row, :n] = 1
        compared[row, dialogue.num_given - 1 : n - 1] = True
    return DialogueBatch(ids, mask, compared)


def _prompt(record: Any, tokenizer: Any) -> Tokens:
    if "messages" in record:
        turns = record["messages"]
        last = max(i for i, turn in enumerate(turns) if turn["role"] == "user")
        text = tokenizer.apply_chat_template(
            turns[: last + 1], tokenize=False, add_generation_prompt=True
        )
        return _ids(tokenizer, text)
    return list(tokenizer(record["prompt"] if "prompt" in record else record["text"])["input_ids"])


def _ids(tokenizer: Any, text: str) -> Tokens:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []


@torch.no_grad()
def _draw(model: Any, tokenizer: Any, prompts: Sequence[Tokens], max_tokens: int) -> list[Tokens]:
    """Continuations at temperature one, up to the end of text and with it."""
    end = tokenizer.eos_token_id
    length = max(map(len, prompts))
    padded = torch.tensor([[end] * (length - len(row)) + list(row) for row in prompts])
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in prompts])
    drawn = model.generate(
        padded,
        attention_mask=mask,
        pad_token_id=end,
        eos_token_id=end,
        max_new_tokens=max_tokens,
        do_sample=True,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
    )
    rows: list[Tokens] = drawn[:, length:].tolist()
    return [row[: row.index(end) + 1] if end in row else row for row in rows]


def _before(said: Tokens, tokenizer: Any) -> Tokens:
    return said[:-1] if said[-1] == tokenizer.eos_token_id else said
