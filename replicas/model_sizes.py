"""Whether several devices can share a model. Knows its sizes, and no devices."""

from dataclasses import dataclass
from typing import Any

_FEED_FORWARD = ("intermediate_size", "n_inner", "ffn_dim")
# vLLM fills the vocabulary up to a multiple of it before it splits it.
_VOCAB_MULTIPLE = 64


@dataclass(frozen=True, slots=True)
class ModelSizes:
    """What tensor parallelism splits. `num_intermediate` is 0 where the configuration says none."""

    num_heads: int
    num_kv_heads: int
    num_intermediate: int
    vocab_size: int

    @staticmethod
    def of(config: Any) -> "ModelSizes":
        """From a model's transformers configuration."""
        text = config.get_text_config()
        num_heads = int(text.num_attention_heads)
        num_kv_heads = getattr(text, "num_key_value_heads", None) or num_heads
        if getattr(text, "multi_query", False):
            num_kv_heads = 1
        found = (getattr(text, name, None) for name in _FEED_FORWARD)
        return ModelSizes(
            num_heads, int(num_kv_heads), int(next(filter(None, found), 0)), int(text.vocab_size)
        )

    def obstacles(self, num_devices: int) -> list[str]:
        """What so many devices cannot share in equal parts; empty if they can share it all."""
        padded_vocab = -(-self.vocab_size // _VOCAB_MULTIPLE) * _VOCAB_MULTIPLE
        found = []
        if self.num_heads % num_devices:
            found.append(f"{self.num_heads} attention heads")
        # A head of keys and values may be on several devices.
        if self.num_kv_heads % num_devices and num_devices % self.num_kv_heads:
            found.append(f"{self.num_kv_heads} key-value heads")
        if self.num_intermediate % num_devices:
            found.append(f"an intermediate size of {self.num_intermediate}")
        if padded_vocab % num_devices:
            found.append(f"a vocabulary of {padded_vocab}")
        return found

    def require(self, num_devices: int) -> None:
        """Raises ValueError, which names the obstacles and what would do, unless they can."""
        if obstacles := self.obstacles(num_devices):
            possible = [n for n in range(1, self.num_heads + 1) if not self.obstacles(n)]
            raise ValueError(
                f"tensor_parallel_size is {num_devices}, and the model has"
                f" {' and '.join(obstacles)}: possible are {', '.join(map(str, possible))}"
            )
