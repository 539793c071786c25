"""Models of the paper's serving experiments by shape alone: their weights are made up.

Shapes are the published hyperparameters of StarCoderBase 15B, 3B and 1B (multi-query attention),
Llama-2 13B and 7B, and Llama-3 8B. Knows no engine.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

Numbers = Literal["bfloat16", "int8", "fp8"]
"""How a base model's linear layers are stored."""

_CUT_WIDTHS = 4
_CUT_LAYERS = 2
_CUT_VOCABULARY = 2048


@dataclass(frozen=True, slots=True)
class PaperModel:
    """Sizes of one decoder. `family` decides which linear layers it has and what they are called.

    `num_devices` above 1 makes it the part that each of so many devices has of the model: heads and
    the feed-forward width are divided, what goes in and out of a block is not.
    """

    family: Literal["starcoder", "llama"]
    num_layers: int
    hidden: int
    num_heads: int
    num_kv_heads: int
    ffn: int
    vocabulary: int
    positions: int
    num_devices: int = 1

    @property
    def head(self) -> int:
        """Numbers of one attention head."""
        return self.hidden // self.num_heads

    def cut(self) -> "PaperModel":
        """The same architecture for a small machine: a quarter of the widths, two layers."""
        num_heads = self.num_heads // _CUT_WIDTHS
        num_kv_heads = self.num_kv_heads if self.num_kv_heads == 1 else self.num_kv_heads // 4
        return replace(
            self,
            num_layers=_CUT_LAYERS,
            hidden=num_heads * self.head,
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            ffn=self.ffn // _CUT_WIDTHS,
            vocabulary=_CUT_VOCABULARY,
        )

    def part(self, num_devices: int) -> "PaperModel":
        """What one of `num_devices` computes. Raises ValueError where it does not divide."""
        if self.family != "llama" or self.num_kv_heads % num_devices or self.ffn % num_devices:
            raise ValueError(f"{self} has no equal parts for {num_devices} devices")
        return replace(self, num_devices=num_devices)

    def modules(self) -> dict[str, tuple[int, int]]:
        """(in, out) of the linear layers of one block, by their names in it."""
        n = self.num_devices
        hidden, ffn = self.hidden, self.ffn // n
        queries, keys = hidden // n, self.num_kv_heads * self.head // n
        if self.family == "starcoder":
            return {
                "attn.c_attn": (hidden, hidden + 2 * self.head),
                "attn.c_proj": (hidden, hidden),
                "mlp.c_fc": (hidden, ffn),
                "mlp.c_proj": (ffn, hidden),
            }
        return {
            "self_attn.q_proj": (hidden, queries),
            "self_attn.k_proj": (hidden, keys),
            "self_attn.v_proj": (hidden, keys),
            "self_attn.o_proj": (queries, hidden),
            "mlp.gate_proj": (hidden, ffn),
            "mlp.up_proj": (hidden, ffn),
            "mlp.down_proj": (ffn, hidden),
        }

    @property
    def block_prefix(self) -> str:
        """What stands before a block's number in the names of modules."""
        return "transformer.h." if self.family == "starcoder" else "model.layers."

    @property
    def num_products(self) -> int:
        """Multiplications of one token with the weights of all linear layers but the head."""
        return self.num_layers * sum(n_in * n_out for n_in, n_out in self.modules().values())

    @property
    def num_pair_numbers(self) -> int:
        """Numbers of a rank-1 LoRA: in + out of every linear layer but the head."""
        return self.num_layers * sum(n_in + n_out for n_in, n_out in self.modules().values())

    @property
    def num_parameters(self) -> int:
        """Of the whole model, but for norms and biases."""
        tables = 1 if self.family == "starcoder" else 2
        positions = self.positions if self.family == "starcoder" else 0
        return self.num_products + (tables * self.vocabulary + positions) * self.hidden

    def config(self, numbers: Numbers = "bfloat16") -> dict[str, Any]:
        """Hugging Face's config.json."""
        n = self.num_devices
        common: dict[str, Any] = {
            "dtype": "bfloat16",
            "vocab_size": self.vocabulary,
            "bos_token_id": 0,
            "eos_token_id": 0,
        }
        if numbers == "int8":
            common["quantization_config"] = _INT8
        if self.family == "starcoder":
            return common | {
                "architectures": ["GPTBigCodeForCausalLM"],
                "model_type": "gpt_bigcode",
                "n_embd": self.hidden,
                "n_layer": self.num_layers,
                "n_head": self.num_heads,
                "n_inner": self.ffn,
                "n_positions": self.positions,
            }
        return common | {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden,
            "head_dim": self.head,
            "intermediate_size": self.ffn // n,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads // n,
            "num_key_value_heads": self.num_kv_heads // n,
            "max_position_embeddings": self.positions,
            "tie_word_embeddings": False,
        }

    def write(self, folder: Path, numbers: Numbers = "bfloat16") -> Path:
        """A model folder without weights, for engines that make them up."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config(numbers), indent=2))
        return folder


_INT8 = {
    "quant_method": "compressed-tensors",
    "format": "int-quantized",
    "quantization_status": "compressed",
    "ignore": ["lm_head"],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"},
            "input_activations": {
                "num_bits": 8,
                "type": "int",
                "symmetric": True,
                "strategy": "token",
                "dynamic": True,
            },
        }
    },
}
"""8-bit weights, a scale an output, and 8-bit inputs, a scale a token."""

MODELS: Mapping[str, PaperModel] = MappingProxyType(
    {
        "starcoder-15b": PaperModel("starcoder", 40, 6144, 48, 1, 24576, 49152, 8192),
        "starcoder-3b": PaperModel("starcoder", 36, 2816, 22, 1, 11264, 49152, 8192),
        "starcoder-1b": PaperModel("starcoder", 24, 2048, 16, 1, 8192, 49152, 8192),
        "llama2-13b": PaperModel("llama", 40, 5120, 40, 40, 13824, 32000, 4096),
        "llama2-7b": PaperModel("llama", 32, 4096, 32, 32, 11008, 32000, 4096),
        "llama3-8b": PaperModel("llama", 32, 4096, 32, 8, 14336, 128256, 8192),
    }
)
"""The paper's five, and the Llama of today."""
