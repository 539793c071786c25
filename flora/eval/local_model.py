"""A subject on this machine: a transformers model with an adapter in its weights."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer

from contracts.errors import InvalidRequest
from flora.base_model import fingerprint
from flora.eval.adapted_weights import adapted_weights, swapped
from flora.eval.passages import Passage, Score
from flora.eval.subject import Drawing


class LocalModel:
    """See Subject. `adapter` is a PEFT folder of FLORA, LORA or IA3; None judges the base model.

    Raises InvalidRequest where there is no model, InvalidAdapter for the adapter.
    """

    def __init__(
        self,
        model_dir: Path,
        adapter: Path | None = None,
        dtype: Literal["float32", "bfloat16"] = "float32",
        batch_size: int = 16,
    ) -> None:
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(model_dir)
            model: Any = AutoModelForCausalLM.from_pretrained(
                model_dir, dtype=getattr(torch, dtype)
            )
        except (OSError, ValueError) as error:
            raise InvalidRequest(f"{model_dir} holds no model: {error}", "model") from error
        self._model = model.eval()
        self._batch_size = batch_size
        if adapter is not None:
            weights = adapted_weights(self._model, adapter, fingerprint(model_dir))
            self._adapted = ExitStack()
            self._adapted.enter_context(swapped(self._model, weights))

    def answer(self, prompts: Sequence[str], drawing: Drawing) -> list[list[str]]:
        """See Subject."""
        torch.manual_seed(drawing.seed)
        texts = [self._asked(prompt) if drawing.chat else prompt for prompt in prompts]
        rows = [text for text in texts for _ in range(drawing.num_samples)]
        answers: list[str] = []
        for begin in range(0, len(rows), self._batch_size):
            batch = rows[begin : begin + self._batch_size]
            answers += self._generate(batch, drawing)
        n = drawing.num_samples
        return [answers[i : i + n] for i in range(0, len(answers), n)]

    @torch.no_grad()
    def score(self, passages: Sequence[Passage]) -> list[Score]:
        """See Subject."""
        return [self._score(passage) for passage in passages]

    def _score(self, passage: Passage) -> Score:
        if isinstance(passage.context, str):
            given = self._tokenizer(passage.context)["input_ids"]
        else:
            text = self._render(list(passage.context))
            given = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        said = self._tokenizer(passage.text, add_special_tokens=False)["input_ids"]
        unjudged = ""
        if not given:
            given, said = said[:1], said[1:]
            unjudged = self._tokenizer.decode(given)
        ids = torch.tensor([[*given, *said]])
        logits = self._model(input_ids=ids).logits[0, len(given) - 1 : -1].float()
        nats = functional.cross_entropy(logits, ids[0, len(given) :], reduction="sum").item()
        return Score(nats, len(said), len(passage.text.encode()) - len(unjudged.encode()))

    def _asked(self, prompt: str) -> str:
        return self._render([{"role": "user", "content": prompt}])

    def _render(self, messages: list[dict[str, str]]) -> str:
        if not self._tokenizer.chat_template:
            raise InvalidRequest("messages need a model with a chat template", "model")
        return str(
            self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
        )

    @torch.no_grad()
    def _generate(self, texts: Sequence[str], drawing: Drawing) -> list[str]:
        ids = [
            self._tokenizer(text, add_special_tokens=not drawing.chat)["input_ids"]
            for text in texts
        ]
        end = self._tokenizer.eos_token_id
        length = max(map(len, ids))
        padded = torch.tensor([[end] * (length - len(row)) + row for row in ids])
        mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in ids])
        drawn: Any = self._model.generate(
            padded,
            attention_mask=mask,
            pad_token_id=end,
            max_new_tokens=drawing.max_tokens,
            **_sampling(drawing),
            **({"stop_strings": list(drawing.stop)} if drawing.stop else {}),
            tokenizer=self._tokenizer,
        )
        answers = drawn[:, length:]
        return [str(self._tokenizer.decode(row, skip_special_tokens=True)) for row in answers]


def _sampling(drawing: Drawing) -> dict[str, Any]:
    """All that a model's own generation config might say otherwise."""
    if not drawing.temperature:
        return {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    return {
        "do_sample": True,
        "temperature": drawing.temperature,
        "top_p": drawing.top_p,
        "top_k": 0,
    }
