"""One run of training text adapters: which model, which data, where to, and how."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from contracts.errors import InvalidRequest
from flora.recipe import Recipe


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """One run; it makes an adapter of each file that `data` names or holds.

    `heldout` is a file, or for several adapters a folder with a file of each one's name; without it
    a fraction of each adapter's own lines is held out. `target_modules` are names or their last
    parts; none means every linear layer. The base model is kept and computed in `compute_dtype`,
    the adapters are learnt in float32 and written in `save_dtype`. Raises InvalidRequest when a
    value is out of range.
    """

    model_dir: Path
    data: tuple[Path, ...]
    out_dir: Path
    heldout: Path | None = None
    rank: int = 1
    tie_inputs: bool = True
    target_modules: tuple[str, ...] = ()
    max_length_tokens: int = 256
    heldout_fraction: float = 0.1
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    save_dtype: Literal["float32", "float16", "bfloat16"] = "bfloat16"
    recipe: Recipe = field(default_factory=Recipe)

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise InvalidRequest("rank must be at least 1", "rank")
        if self.max_length_tokens < 2:
            raise InvalidRequest("max_length_tokens must be at least 2", "max_length_tokens")
        if not 0 < self.heldout_fraction < 1:
            raise InvalidRequest("heldout_fraction must be between 0 and 1", "heldout_fraction")
