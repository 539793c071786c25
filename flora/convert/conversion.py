"""From a trained LoRA to a fLoRA adapter: closed form, then distillation. Knows no server."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from contracts.errors import InvalidRequest
from flora.adapter_files import AdapterFiles, write_adapter
from flora.base_model import fingerprint
from flora.convert.dialogues import Dialogue, answered, own_prompts, read_prompts
from flora.convert.distil import DistilConfig, Faithfulness, Progress, distil, faithfulness
from flora.convert.moments import input_moments
from flora.convert.student import Student
from flora.eval.adapted_weights import lora_weights, swapped
from flora.eval.lora import read_lora
from flora.eval.peft_folder import CONFIG_FILE, WEIGHTS_FILE, read_folder

POOR_SHARE = 0.5
"""Below this the adapter is not what the LoRA was."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ConvertConfig:
    """One LoRA and what it is converted with. Without `prompts_path` the model makes prompts up.

    Raises InvalidRequest when a value is out of range.
    """

    model_dir: Path
    lora_dir: Path
    prompts_path: Path | None = None
    num_prompts: int = 256
    prompt_tokens: int = 128
    answer_tokens: int = 48
    heldout_fraction: float = 0.2
    num_sweeps: int = 2
    batch_size: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        counts = (self.prompt_tokens, self.answer_tokens, self.num_sweeps, self.batch_size)
        if min(counts) < 1 or self.num_prompts < 2 or not 0 < self.heldout_fraction < 1:
            raise InvalidRequest(
                "prompt_tokens, answer_tokens, num_sweeps and batch_size are positive,"
                " num_prompts is at least 2, heldout_fraction is between 0 and 1"
            )


@dataclass(frozen=True, slots=True)
class Kept:
    """How much of a LoRA's effect an adapter has, on held-out prompts.

    `share` is 1 - KL(lora || flora) / KL(lora || base); 1 is all of it, 0 is the base model.
    `start_share` is the closed form's. Agreements are on the most likely next token.
    """

    rank: int
    share: float
    start_share: float
    agreement: float
    start_agreement: float
    base_agreement: float
    base_divergence: float
    divergence: float
    num_heldout_tokens: int

    @property
    def is_poor(self) -> bool:
        return self.share < POOR_SHARE


@dataclass
class Conversion:
    """A LoRA on its base model, with the dialogues that its adapters are fitted to.

    Built once, `derive` makes an adapter of any rank. Raises InvalidAdapter, InvalidRequest.
    """

    config: ConvertConfig
    say: Say = lambda text: None
    learned: list[Dialogue] = field(init=False)
    heldout: list[Dialogue] = field(init=False)

    def __post_init__(self) -> None:
        config = self.config
        pairs = read_lora(read_folder(config.lora_dir))
        self.tokenizer: Any = AutoTokenizer.from_pretrained(config.model_dir)
        model: Any = AutoModelForCausalLM.from_pretrained(config.model_dir, dtype=torch.float32)
        self.model = model.eval().requires_grad_(False)
        self.teacher = lora_weights(self.model, pairs)
        dialogues = self._dialogues()
        num_heldout = min(max(1, round(config.heldout_fraction * len(dialogues))), len(dialogues))
        self.heldout, self.learned = dialogues[:num_heldout], dialogues[num_heldout:]
        if not self.learned:
            raise InvalidRequest("at least two prompts with an answer are needed", "prompts")
        self._student_sets = Student(self.model, list(self.teacher), 1).sets
        self.say("gathering second moments")
        with swapped(self.model, self.teacher):
            first = [names[0] for names in self._student_sets]
            moments = input_moments(self.model, first, self.learned, config.batch_size)
            self._moments = dict(moments)

    def derive(
        self, rank: int, distilling: DistilConfig, progress: Progress
    ) -> tuple[AdapterFiles, Kept]:
        """The adapter of one rank, and what it keeps: the closed form's, where distilling did not
        bring it nearer to the LoRA.
        """
        student = self.start(rank)
        started = ended = self._faithfulness(student)
        if distilling.num_steps:
            self.say(f"distilling to rank {rank}")
            begin = student.numbers()
            distil(self.model, self.teacher, student, self.learned, distilling, progress)
            ended = self._faithfulness(student)
            if not ended["flora"].divergence < started["flora"].divergence:
                student.restore(begin)
                ended = started
        kept = _kept(rank, started, ended)
        name, print_ = self.config.model_dir.name, fingerprint(self.config.model_dir)
        return student.to_files(name, print_), kept

    def start(self, rank: int) -> Student:
        """The closed form's adapter."""
        student = Student(self.model, list(self.teacher), rank)
        for number, names in enumerate(student.sets, 1):
            self.say(f"closed form, {number} of {len(student.sets)} layers")
            moment = self._moments[names[0]]
            student.fit(names, self.teacher, moment, self.config.num_sweeps, self.config.seed)
        return student

    def _dialogues(self) -> list[Dialogue]:
        config = self.config
        torch.manual_seed(config.seed)
        if config.prompts_path is not None:
            prompts = read_prompts(config.prompts_path, self.tokenizer, config.prompt_tokens)
            order = torch.randperm(len(prompts)).tolist()[: config.num_prompts]
            prompts = [prompts[i] for i in order]
        else:
            self.say("making up prompts")
            made = config.num_prompts, config.prompt_tokens // 2, 4 * config.batch_size
            prompts = own_prompts(self.model, self.tokenizer, *made)
        self.say(f"the LoRA answers {len(prompts)} prompts")
        with swapped(self.model, self.teacher):
            width = 4 * config.batch_size
            return answered(self.model, self.tokenizer, prompts, config.answer_tokens, width)

    def _faithfulness(self, student: Student) -> dict[str, Faithfulness]:
        with torch.no_grad():
            others = {"base": {}, "flora": student.weights()}
        return faithfulness(self.model, self.teacher, others, self.heldout, self.config.batch_size)


def write_folder(files: AdapterFiles, out_dir: Path) -> int:
    """Writes the adapter as PEFT's two files in bfloat16; the bytes of its weights."""
    weights, config_json = write_adapter(files, "bfloat16")
    out_dir.mkdir(parents=True, exist_ok=True)
    (out_dir / WEIGHTS_FILE).write_bytes(weights)
    (out_dir / CONFIG_FILE).write_bytes(config_json)
    return len(weights)


def _kept(rank: int, started: dict[str, Faithfulness], ended: dict[str, Faithfulness]) -> Kept:
    base = ended["base"].divergence
    if not base > 0:
        raise InvalidRequest("the LoRA answers as its base model does: nothing is to be kept")
    return Kept(
        rank,
        1 - ended["flora"].divergence / base,
        1 - started["flora"].divergence / base,
        ended["flora"].agreement,
        started["flora"].agreement,
        ended["base"].agreement,
        base,
        ended["flora"].divergence,
        ended["base"].num_tokens,
    )
