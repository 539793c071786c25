"""What a server answers many tenants who ask in the same batches, and how much of it is right."""

from dataclasses import dataclass
from itertools import pairwise

from rich.console import Console

from benchmarks.intent_client import Question, Reply, ask_all
from benchmarks.intents import IntentTenant

KINDS = ("own", "next", "base", "base_choice")
"""Asked with the tenant's adapter, the next tenant's, none, and none but a choice of intents."""


@dataclass(frozen=True, slots=True)
class Answers:
    """`accuracies` by "KIND_accuracy_TENANT"; `own` are the replies with each tenant's adapter."""

    accuracies: dict[str, float]
    own: dict[str, list[Reply]]
    kinds: tuple[str, ...] = KINDS


async def ask_tenants(
    url: str, base: str, tenants: list[IntentTenant], console: Console
) -> Answers:
    """Every tenant's utterances in each of the ways, mixed among the tenants."""
    answers = Answers({}, {})
    following = dict(pairwise([*tenants, tenants[0]]))
    for kind in KINDS:
        questions = [
            [ask(kind, base, tenant, following[tenant], u.prompt) for u in tenant.asked]
            for tenant in tenants
        ]
        replies = await ask_all(url, mixed(questions))
        console.print(f"{kind}: {len(replies)} answers")
        for tenant, told in zip(tenants, unmixed(replies, len(tenants)), strict=True):
            answers.accuracies[f"{kind}_accuracy_{tenant.name}"] = accuracy(tenant, told)
            if kind == "own":
                answers.own[tenant.name] = told
    return answers


def ask(
    kind: str, base: str, tenant: IntentTenant, following: IntentTenant, prompt: str
) -> Question:
    """One question of a tenant."""
    if kind == "own":
        return Question(f"{base}:{tenant.name}", prompt)
    if kind == "next":
        return Question(f"{base}:{following.name}", prompt)
    choices = tuple(f" {intent}" for intent in tenant.intents)
    return Question(base, prompt, choices if kind == "base_choice" else ())


def mixed(questions: list[list[Question]]) -> list[Question]:
    """The first of each tenant, then the second of each; all have equally many."""
    return [question for together in zip(*questions, strict=True) for question in together]


def unmixed(replies: list[Reply], num_tenants: int) -> list[list[Reply]]:
    """The inverse of `mixed`, for what came back."""
    return [replies[tenant::num_tenants] for tenant in range(num_tenants)]


def accuracy(tenant: IntentTenant, replies: list[Reply]) -> float:
    """The share of answers that are the intent's name to the letter."""
    pairs = zip(tenant.asked, replies, strict=True)
    return sum(asked.intent == reply.text.strip() for asked, reply in pairs) / len(replies)
