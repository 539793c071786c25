"""Tenants whose task is to name what a customer wants, each in words of its own: CLINC150.

Larson et al., "An Evaluation Dataset for Intent Classification and Out-of-Scope Prediction", EMNLP
2019, CC BY 3.0: ten domains of fifteen intents. Knows neither training nor a server.
"""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

DOMAINS, EXAMPLES = "clinc150_domains.json", "clinc150_small_train_val.json"


@dataclass(frozen=True, slots=True)
class Utterance:
    """What somebody said, and the intent's name that is the right answer to it."""

    text: str
    intent: str

    @property
    def prompt(self) -> str:
        return f"{self.text}\nIntent:"

    @property
    def answer(self) -> str:
        return f" {self.intent}"


@dataclass(frozen=True, slots=True)
class IntentTenant:
    """One domain: what it trains on, what its loss is taken on, what it is asked."""

    name: str
    intents: tuple[str, ...]
    train: tuple[Utterance, ...]
    heldout: tuple[Utterance, ...]
    asked: tuple[Utterance, ...]


def read_tenants(folder: Path, num_asked: int) -> list[IntentTenant]:
    """The ten domains; `num_asked` utterances an intent are asked, one is for the loss.

    Raises FileNotFoundError where the data is not.
    """
    domains: dict[str, list[str]] = json.loads((folder / DOMAINS).read_text(encoding="utf-8"))
    parts = json.loads((folder / EXAMPLES).read_text(encoding="utf-8"))
    train, val = (_by_intent(parts[part]) for part in ("train", "val"))
    return [
        IntentTenant(
            name.replace("_", "-"),
            tuple(words(intent) for intent in intents),
            tuple(utterance for intent in intents for utterance in train[intent]),
            tuple(val[intent][0] for intent in intents),
            tuple(utterance for intent in intents for utterance in val[intent][1 : num_asked + 1]),
        )
        for name, intents in domains.items()
    ]


def write_lines(tenants: list[IntentTenant], folder: Path) -> tuple[Path, Path]:
    """A file for each tenant to train on, and one to hold out, in two folders."""
    folders = folder / "train", folder / "heldout"
    for tenant in tenants:
        for place, utterances in zip(folders, (tenant.train, tenant.heldout), strict=True):
            place.mkdir(parents=True, exist_ok=True)
            lines = [json.dumps({"prompt": u.prompt, "completion": u.answer}) for u in utterances]
            (place / f"{tenant.name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folders


def words(intent: str) -> str:
    """The name pin_change as "pin change"."""
    return intent.replace("_", " ")


def _by_intent(pairs: list[list[str]]) -> dict[str, list[Utterance]]:
    found = defaultdict(list)
    for text, intent in pairs:
        found[intent].append(Utterance(text, words(intent)))
    return found
