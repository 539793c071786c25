"""transformers' Trainer for a stack of adapters: example i of a step updates adapter i's numbers.

Knows neither text nor any kind of model: an `Objective` maps examples to losses.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.trainer import OPTIMIZER_NAME
from transformers.trainer_utils import get_last_checkpoint

from flora.adapter_data import AdapterData, ExampleT
from flora.early_stop import EarlyStop
from flora.learning_rate import LearningRate
from flora.mixed_batch import MixedBatch, adapter_losses
from flora.objective import Objective
from flora.recipe import Recipe
from flora.stacked_adamw import StackedAdamW, clip_each
from flora.stacked_adapters import StackedAdapters
from flora.step_plan import StepPlan

_TENSORS, _BEST, _STOPS = "adapters.safetensors", "best.safetensors", "early_stop.json"


@dataclass(frozen=True, slots=True)
class TrainStep:
    """Where a run stands after one step. Losses are nats per target token, means over adapters.

    `loss` is that of the step's batch, `heldout_loss` the last one taken, if any. `num_tokens` were
    learnt from in `elapsed_s`, both since this process began or resumed the run.
    """

    step: int
    max_steps: int
    num_adapters: int
    loss: float
    heldout_loss: float | None
    num_tokens: int
    elapsed_s: float


Progress = Callable[[TrainStep], None]
Clock = Callable[[], float]


class StackedTrainer(Trainer, Generic[ExampleT]):
    """Trains every adapter of `stack`, which is on `model`, from the `data` of its number.

    The numbers of an adapter are what they would be had it been trained alone. Checkpoints go to
    `checkpoint_dir` and hold the adapters and not the model. `should_stop` is asked after each
    step; once it says so, the run ends there with a checkpoint.
    """

    def __init__(
        self,
        model: Any,
        stack: StackedAdapters,
        objective: Objective[ExampleT],
        data: Sequence[AdapterData[ExampleT]],
        recipe: Recipe,
        checkpoint_dir: Path,
        progress: Progress,
        clock: Clock,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.stack, self.objective, self.data, self.recipe = stack, objective, data, recipe
        self.plan = StepPlan(tuple(len(each.learned) for each in data), recipe)
        rate = LearningRate(
            recipe.learning_rate, recipe.num_warmup_steps, self.plan.num_steps, recipe.schedule
        )
        self.stops = EarlyStop(len(data), recipe.patience)
        arguments = _arguments(recipe, checkpoint_dir, max(self.plan.num_steps))
        super().__init__(model=model, args=arguments, eval_dataset=[])
        # After the base class has moved the model to its device.
        self.adamw = StackedAdamW(stack.parameters.values(), rate)
        self.optimizer = self.adamw
        self._best = {n: p.detach().clone() for n, p in stack.parameters.items()}
        self.remove_callback(PrinterCallback)
        self.add_callback(_StepReporter(self, progress, clock, should_stop))
        self.last_loss, self.num_tokens = 0.0, 0
        self.last_heldout_loss: float | None = None

    def fit(self, resume: bool = False) -> bool:
        """Runs to the end, from the last checkpoint on if `resume`; whether it was the end."""
        # No dropout: a run is a function of its seed. Layers recompute only in training mode.
        self.model.eval()
        for module in self.model.modules():
            if isinstance(module, GradientCheckpointingLayer):
                module.training = self.recipe.gradient_checkpointing
        checkpoint = get_last_checkpoint(self.args.output_dir) if resume else None
        step = 0 if checkpoint is None else int(checkpoint.rpartition("-")[2])
        if checkpoint is not None:
            self._load_from_checkpoint(checkpoint)
        if self.active(step):
            self.train(resume_from_checkpoint=checkpoint)
            step = self.state.global_step
        elif checkpoint is not None:
            state = torch.load(Path(checkpoint) / OPTIMIZER_NAME, weights_only=True)
            self.adamw.load_state_dict(state)
        is_done = not self.active(step)
        if is_done and self.recipe.patience:
            self.stack.load(self._best)
        return is_done

    def active(self, step: int) -> list[int]:
        """Adapters that learn in a step, counted from 0."""
        return [
            k
            for k, num_steps in enumerate(self.plan.num_steps)
            if step < num_steps and not self.stops.is_stopped(k)
        ]

    def heldout_losses(self, adapters: Sequence[int]) -> list[float]:
        """Of each adapter, the mean over the targets of its held-out examples."""
        pairs = [(k, example) for k in adapters for example in self.data[k].heldout]
        batch = MixedBatch(tuple(k for k, _ in pairs), tuple(example for _, example in pairs))
        with torch.no_grad():
            losses = self._losses(batch, None)
        return [losses[k].item() for k in adapters]

    def get_train_dataloader(self) -> Any:
        """The batches from the current step on, each made when it is asked for."""
        return _Batches(self)

    def batch(self, step: int) -> MixedBatch[ExampleT]:
        """What is learnt from in a step, counted from 0."""
        pairs = [(k, i) for k in self.active(step) for i in self.plan.indices(k, step)]
        return MixedBatch(
            tuple(k for k, _ in pairs), tuple(self.data[k].learned[i] for k, i in pairs)
        )

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Gradients of one batch, each adapter's clipped by itself; the mean of their losses."""
        batch: MixedBatch[ExampleT] = inputs["batch"]
        losses = self._losses(batch, self.accelerator.backward)
        present = torch.zeros(len(self.data), dtype=torch.bool)
        present[list(set(batch.adapters))] = True
        parameters = self.stack.parameters.values()
        is_finite = clip_each(parameters, self.recipe.max_gradient_norm).cpu()
        self.adamw.present = present & is_finite
        self.num_tokens += sum(map(self.objective.num_tokens, batch.examples))
        loss = losses[present].mean()
        self.last_loss = loss.item()
        return loss.to(self.args.device)

    def evaluate(self, *unused: Any, **options: Any) -> dict[str, float]:
        """Held-out losses of those that learnt since the last ones; who gets no better stops."""
        every = self.recipe.eval_steps
        adapters = self.active((self.state.global_step - 1) // every * every)
        losses = self.heldout_losses(adapters)
        improved = self.stops.record(dict(zip(adapters, losses, strict=True)))
        for name, parameter in self.stack.parameters.items():
            self._best[name][improved] = parameter.detach()[improved]
        self.last_heldout_loss = sum(losses) / len(losses)
        metrics = {"eval_loss": self.last_heldout_loss}
        control: Any = self.control
        self.callback_handler.on_evaluate(self.args, self.state, control, metrics)
        if not self.active(self.state.global_step):
            control.should_training_stop = True
        return metrics

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The adapters and how their evaluations went; the model is as it was."""
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        save_file({n: p.detach() for n, p in self.stack.parameters.items()}, folder / _TENSORS)
        save_file(self._best, folder / _BEST)
        (folder / _STOPS).write_text(json.dumps(self.stops.to_json()))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        folder = Path(resume_from_checkpoint)
        self.stack.load(load_file(folder / _TENSORS))
        for name, tensor in load_file(folder / _BEST).items():
            self._best[name].copy_(tensor)
        self.stops.load_json(json.loads((folder / _STOPS).read_text()))

    def _losses(
        self, batch: MixedBatch[ExampleT], backward: Callable[[torch.Tensor], None] | None
    ) -> torch.Tensor:
        max_tokens = self.recipe.max_forward_tokens
        return adapter_losses(self.model, self.stack, self.objective, batch, max_tokens, backward)


class _Batches(Generic[ExampleT]):
    """An endless loader. Which adapters learn is known only once the step before is over."""

    def __init__(self, trainer: StackedTrainer[ExampleT]) -> None:
        self._trainer = trainer

    def __iter__(self) -> Iterator[dict[str, MixedBatch[ExampleT]]]:
        while True:
            yield {"batch": self._trainer.batch(self._trainer.state.global_step)}


class _StepReporter(TrainerCallback):
    """Tells how far a run is, and ends it between two steps."""

    def __init__(
        self,
        trainer: StackedTrainer[Any],
        progress: Progress,
        clock: Clock,
        should_stop: Callable[[], bool],
    ) -> None:
        self._trainer, self._progress, self._clock = trainer, progress, clock
        self._should_stop = should_stop
        self._begin_s = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
        self._begin_s = self._clock()

    def on_step_end(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
        trainer = self._trainer
        step = TrainStep(
            state.global_step,
            state.max_steps,
            len(trainer.active(state.global_step - 1)),
            trainer.last_loss,
            trainer.last_heldout_loss,
            trainer.num_tokens,
            self._clock() - self._begin_s,
        )
        self._progress(step)
        if self._should_stop():
            control.should_save = control.should_training_stop = True


def _arguments(recipe: Recipe, checkpoint_dir: Path, max_steps: int) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(checkpoint_dir),
        max_steps=max_steps,
        seed=recipe.seed,
        lr_scheduler_type="constant",  # the optimizer has each adapter's own
        max_grad_norm=0.0,  # clipped by adapter
        gradient_checkpointing=recipe.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        logging_strategy="no",
        eval_strategy="steps" if recipe.eval_steps else "no",
        eval_steps=recipe.eval_steps or None,
        save_strategy="steps" if recipe.checkpoint_steps else "no",
        save_steps=recipe.checkpoint_steps or max_steps,
        save_total_limit=1,
        ignore_data_skip=True,  # batches are a function of the step
        disable_tqdm=True,
        report_to="none",
    )
    # Copies of the model on several devices would each see a part of the sequences.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments
