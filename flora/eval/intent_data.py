"""CLINC150 and banking77 from their published files. Knows no model."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.errors import InvalidRequest

CLINC_DOMAINS = "clinc150_domains.json"
CLINC_MESSAGES = "clinc150_small_train_val.json"
BANKING_TEST = "banking77_test_even.csv"
BANKING_TRAIN = "banking77_train.csv"


@dataclass(frozen=True, slots=True)
class Message:
    """What a user said, and the intent that it has."""

    text: str
    label: str


@dataclass(frozen=True, slots=True)
class IntentData:
    """One tenant: its labels, messages to learn from and messages held out."""

    labels: tuple[str, ...]
    learned: tuple[Message, ...]
    heldout: tuple[Message, ...]


def clinc_domains(folder: Path) -> dict[str, tuple[str, ...]]:
    """The ten domains of CLINC150 with their labels. Raises InvalidRequest."""
    found = _json(folder / CLINC_DOMAINS)
    return {domain: tuple(labels) for domain, labels in found.items()}


def read_intents(folder: Path, name: str) -> IntentData:
    """`banking77`, or a domain of CLINC150 (Larson et al. 2019). Raises InvalidRequest.

    Held out are banking77's test file and CLINC150's validation split.
    """
    if name == "banking77":
        learned, heldout = _csv(folder / BANKING_TRAIN), _csv(folder / BANKING_TEST)
        return IntentData(tuple(sorted({m.label for m in learned})), learned, heldout)
    domains = clinc_domains(folder)
    if name not in domains:
        raise InvalidRequest(f"no intents '{name}'; there are: banking77, {', '.join(domains)}")
    labels = domains[name]
    splits = _json(folder / CLINC_MESSAGES)
    learned, heldout = (
        tuple(Message(text, label) for text, label in splits[split] if label in labels)
        for split in ("train", "val")
    )
    return IntentData(labels, learned, heldout)


def _json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_text(path))
    return found


def _csv(path: Path) -> tuple[Message, ...]:
    rows = csv.DictReader(_text(path).splitlines())
    return tuple(Message(row["text"], row["category"]) for row in rows)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidRequest(f"{path}: {error.strerror}; say with --data where it is") from error
