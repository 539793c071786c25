"""How adapters are trained, whatever the model and the data: the numbers of a run."""

from dataclasses import dataclass

from contracts.errors import InvalidRequest
from flora.learning_rate import Schedule


@dataclass(frozen=True, slots=True)
class Recipe:
    """The defaults are the paper's: learning rate 8e-3, a short warm-up, then a cosine.

    Every adapter makes `max_steps` steps of `batch_size` of its own examples, or fewer when
    `max_epochs` passes over its data end before. `max_gradient_norm` bounds each adapter's own.
    Every `eval_steps` steps (0: never) the held-out loss is taken; with `patience` above 0 an
    adapter that gets no better so many times in a row stops, and its best numbers are kept.
    `checkpoint_steps` (0: never) bounds what a crash loses. `max_forward_tokens`, padding included,
    bounds the memory of one forward and backward pass, not the step. Raises InvalidRequest when a
    value is out of range.
    """

    max_steps: int = 200
    max_epochs: float | None = None
    batch_size: int = 8
    learning_rate: float = 8e-3
    schedule: Schedule = "cosine"
    num_warmup_steps: int = 10
    max_gradient_norm: float = 1.0
    eval_steps: int = 0
    patience: int = 0
    checkpoint_steps: int = 100
    gradient_checkpointing: bool = False
    max_forward_tokens: int = 2048
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("max_steps", "batch_size", "learning_rate", "max_gradient_norm"):
            if getattr(self, name) <= 0:
                raise InvalidRequest(f"{name} must be above 0", name)
        for name in ("num_warmup_steps", "eval_steps", "patience", "checkpoint_steps", "seed"):
            if getattr(self, name) < 0:
                raise InvalidRequest(f"{name} must not be below 0", name)
        if self.max_epochs is not None and self.max_epochs <= 0:
            raise InvalidRequest("max_epochs must be above 0", "max_epochs")
        if self.max_forward_tokens < 1:
            raise InvalidRequest("max_forward_tokens must be at least 1", "max_forward_tokens")
        if self.patience and not self.eval_steps:
            raise InvalidRequest("patience counts evaluations: set eval_steps too", "patience")
