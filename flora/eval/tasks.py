"""What `flora eval` asks of a subject, and what it makes of the answers. Knows no server."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from flora.eval import intent, multipl_e
from flora.eval.estimate import Estimate, estimate
from flora.eval.intent_data import IntentData
from flora.eval.multipl_e import Judgement, Problem, Runner, Verdict
from flora.eval.passages import Passage, perplexity
from flora.eval.subject import Drawing, Subject
from flora.eval.toolchains import Toolchain
from flora.eval.wer import count_errors

_NUM_RUNNERS = 2
_NUM_CONFUSED = 10
_INTENT_TOKENS = 24
_SEED_STRIDE = 1 << 20
"""A request for several samples may use up one seed for each."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one task came to. `details` are counts and texts that are no estimates."""

    estimates: dict[str, Estimate]
    details: dict[str, Any] = field(default_factory=dict)


def bits_per_byte(subject: Subject, passages: Sequence[Passage], seed: int) -> Finding:
    """Bits per byte and nats per token over all passages; perplexity is e to the latter."""
    scores = subject.score(passages)
    nats, tokens = [s.nats for s in scores], [float(s.num_tokens) for s in scores]
    found = {
        "bits_per_byte": estimate(
            [s.bits for s in scores], [s.num_bytes for s in scores], seed=seed
        ),
        "nats_per_token": estimate(nats, tokens, seed=seed),
    }
    num_bytes = sum(score.num_bytes for score in scores)
    counts = {"num_tokens": int(sum(tokens)), "num_bytes": num_bytes}
    return Finding(found, {"perplexity": perplexity(scores), **counts})


def intent_accuracy(
    subject: Subject, data: IntentData, *, limit: int | None, with_labels: bool, seed: int
) -> Finding:
    """Greedy answers to the held-out messages; `with_labels` the prompt names all labels."""
    messages = data.heldout[:limit]
    labels = data.labels if with_labels else ()
    prompts = [intent.prompt(message.text, labels) for message in messages]
    answers = subject.answer(prompts, Drawing(_INTENT_TOKENS, chat=True, seed=seed))
    expected = [message.label for message in messages]
    given = [intent.parse(answer[0], data.labels) for answer in answers]
    right = [float(a == b) for a, b in zip(expected, given, strict=True)]
    confused = intent.confusion(expected, given).most_common(_NUM_CONFUSED)
    details = {
        "unparsed": given.count(None),
        "confusion": [{"expected": a, "given": b, "count": n} for (a, b), n in confused],
    }
    return Finding({"accuracy": estimate(right, seed=seed)}, details)


def word_errors(pairs: Sequence[tuple[str, str]], *, characters: bool, seed: int) -> Finding:
    """Word error rate over (reference, hypothesis) pairs; of characters, the character's."""
    errors = [count_errors(a, b, characters=characters) for a, b in pairs]
    edits = [float(error.num_edits) for error in errors]
    words = [float(error.num_words) for error in errors]
    name = "character_error_rate" if characters else "word_error_rate"
    return Finding({name: estimate(edits, words, seed=seed)}, {"num_words": int(sum(words))})


def pass_rates(
    subject: Subject,
    problems: Sequence[Problem],
    toolchain: Toolchain,
    runner: Runner,
    drawing: Drawing,
    progress: Progress = lambda text: None,
) -> Finding:
    """pass@k of one language, by `drawing`, whose seed and stop texts each problem has its own of.

    Equal programs are run once.
    """
    judgements = []
    for number, problem in enumerate(problems, 1):
        own = replace(drawing, stop=problem.stop, seed=drawing.seed + _SEED_STRIDE * number)
        completions = subject.answer([problem.prompt], own)[0]
        judgements.append(judge_samples(problem, completions, toolchain, runner))
        passed = sum(j.num_passed > 0 for j in judgements)
        progress(f"{toolchain.language} {number}/{len(problems)}, {passed} solved")
    estimates, verdicts = multipl_e.summarise(judgements, drawing.seed)
    solved = {j.name: j.num_passed for j in judgements if j.num_passed}
    return Finding(estimates, {"verdicts": verdicts, "samples_that_passed": solved})


def judge_samples(
    problem: Problem, completions: Sequence[str], toolchain: Toolchain, runner: Runner
) -> Judgement:
    """The verdict on each completion, in order."""
    programs = [problem.program(completion) for completion in completions]
    different = list(Counter(programs))
    with ThreadPoolExecutor(_NUM_RUNNERS) as pool:
        found = pool.map(lambda program: multipl_e.judge(program, toolchain, runner), different)
        verdicts: dict[str, Verdict] = dict(zip(different, found, strict=True))
    return Judgement(problem.name, tuple(verdicts[program] for program in programs))
