"""Log-probabilities by transformers with an adapter in the weights: what a server must say."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from benchmarks.intent_client import Reply
from benchmarks.llama_layout import llama_layout
from benchmarks.row_changes import demo_files
from flora.adapter_config import AdapterLimits
from flora.codec import compile_adapter, decompile
from flora.linear import materialized


class OfflineLogprobs:
    """A Llama-style model in float32; adapters are materialised into copies of it."""

    def __init__(self, model: Path) -> None:
        self._model: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
        self._layout = llama_layout(model, "float32")

    def max_diff(self, adapter: Path, replies: Sequence[Reply]) -> float:
        """The largest difference over all tokens of what a server said, in nats."""
        row = compile_adapter(self._layout, demo_files(adapter), AdapterLimits()).blob
        model = materialized(self._model, decompile(self._layout, row))
        return max(_diff(model, reply) for reply in replies)


@torch.inference_mode()
def _diff(model: Any, reply: Reply) -> float:
    ids = torch.tensor([*reply.prompt_token_ids, *reply.token_ids])
    num_said = len(reply.token_ids)
    logprobs = model(ids[None]).logits[0, -num_said - 1 : -1].log_softmax(-1)
    mine = logprobs.gather(1, ids[-num_said:, None])[:, 0]
    return float((mine - torch.tensor(reply.logprobs)).abs().max())
