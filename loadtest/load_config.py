"""How much load, of which lengths, for how many adapters: what every shape is made from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Lengths = Literal["uniform", "sharegpt"]
DATA = Path("../shared/data")


@dataclass(frozen=True)
class LoadConfig:
    """`rate` is in requests a second, `num_users` for shapes whose users wait for their answers.

    Lengths are in tokens: `uniform` ones lie between a half and one and a half of the mean,
    `sharegpt` ones and those of traces are real ones, divided by `shrink` and clipped. Raises
    ValueError.
    """

    duration_s: float = 60.0
    rate: float = 8.0
    num_users: int = 8
    num_adapters: int = 0
    base_share: float = 0.0
    skew: float = 1.0
    prompt_tokens: int = 64
    answer_tokens: int = 32
    lengths: Lengths = "uniform"
    shrink: float = 8.0
    max_prompt_tokens: int = 512
    max_answer_tokens: int = 128
    data: Path = DATA
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("duration_s", "rate", "num_users", "prompt_tokens", "answer_tokens", "shrink"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be over 0, not {getattr(self, name)}")
        if not 0 <= self.base_share <= 1:
            raise ValueError(f"base_share must be 0 to 1, not {self.base_share}")
        if self.num_adapters < 0 or self.skew < 0:
            raise ValueError("num_adapters and skew cannot be negative")
        if min(self.max_prompt_tokens, self.max_answer_tokens) < 1:
            raise ValueError("the longest prompt and answer have a token at least")
