"""What `adapter_config.json` says, as a PEFT config. Knows no model."""

from dataclasses import dataclass, field
from typing import Any

from peft.config import PeftConfig
from peft.utils.peft_types import PeftType

PAPER_LEARNING_RATE = 8e-3
"""Where the paper's runs, and `flora train`, start; PEFT leaves the optimizer to its users."""

ALL_LINEAR = "all-linear"


def _help(text: str) -> dict[str, str]:
    return {"help": text}


@dataclass
class FloraConfig(PeftConfig):  # not frozen: PEFT fills it in as it goes
    """W'(x) = sum_j A_j * (W (B_j * x)), Wen & Chaudhuri, ICLR 2024.

    The defaults are the paper's recipe: rank 1 on every linear layer but the output embedding,
    starting at the identity; train it with a learning rate of `PAPER_LEARNING_RATE`. The fields
    that LoRA has too mean what they mean there. Raises ValueError on values that make no adapter.
    """

    r: int = field(
        default=1, metadata=_help("Rank: pairs of A and B. One costs no matrix product of its own.")
    )
    target_modules: list[str] | set[str] | str | None = field(
        default=None,
        metadata=_help(
            "Names, last parts or one regex of the modules to adapt; none means all-linear."
        ),
    )
    exclude_modules: list[str] | set[str] | str | None = field(
        default=None, metadata=_help("Names, last parts or one regex of modules to leave alone.")
    )
    layers_to_transform: list[int] | int | None = field(
        default=None,
        metadata=_help("Indices of the layers to adapt, where target_modules is a list."),
    )
    layers_pattern: list[str] | str | None = field(
        default=None,
        metadata=_help("The name of the list of layers, where layers_to_transform is given."),
    )
    modules_to_save: list[str] | None = field(
        default=None,
        metadata=_help("Modules trained in full beside the adapter. No server can batch these."),
    )
    tie_inputs: bool = field(
        default=True, metadata=_help("Siblings that read one input, as q/k/v, share one B.")
    )
    shared_inputs: list[list[str]] | None = field(
        default=None,
        metadata=_help("Such siblings by last part; none: a forward pass of the model finds them."),
    )
    init_weights: bool = field(
        default=True, metadata=_help("Start as the identity. False: at random, for tests.")
    )
    parametrization: str = field(
        default="deviation",
        metadata=_help('How files hold pair 0: "deviation" from one, or "value".'),
    )
    base_fingerprint: str = field(
        default="",
        metadata=_help("The base model by its weights; filled in where its folder is known."),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PeftType["FLORA"]
        self.target_modules = _as_set(self.target_modules)
        self.exclude_modules = _as_set(self.exclude_modules)
        if self.target_modules is None:
            self.target_modules = ALL_LINEAR
        if type(self.r) is not int or self.r < 1:
            raise ValueError(f"r must be a positive integer, not {self.r!r}")
        if self.parametrization not in ("deviation", "value"):
            raise ValueError(
                f'parametrization must be "deviation" or "value", not {self.parametrization!r}'
            )
        self._check_layers()

    def to_dict(self) -> dict[str, Any]:
        """The fields, with names in order, so that equal adapters make equal files."""
        parts = dict(super().to_dict())
        for name in ("target_modules", "exclude_modules"):
            parts[name] = sorted(parts[name]) if isinstance(parts[name], set) else parts[name]
        return parts

    def _check_layers(self) -> None:
        if self.layers_pattern and self.layers_to_transform is None:
            raise ValueError("layers_pattern is of no use without layers_to_transform")
        is_regex = isinstance(self.target_modules, str) and self.target_modules != ALL_LINEAR
        if is_regex and self.layers_to_transform is not None:
            raise ValueError("layers_to_transform needs a list of target_modules, not a regex")


def _as_set(names: Any) -> Any:
    return set(names) if isinstance(names, list) else names
