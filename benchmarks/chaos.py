"""Question: does anybody notice when processes of a running server are killed at random?

A server with two replicas and two ingress processes, 32 clients that stream greedy answers one
after the other, and a monkey that every few seconds kills (SIGKILL) a replica, an engine, an
ingress process or Redis, which comes back empty-handed from its files a second later. Each answer
is compared, token by token, with the same question's answer before the chaos.

Ceiling: no failed stream and no wrong token. What may be seen: a 503 with Retry-After instead of an
answer that has not begun, and the end of the connections that a killed ingress process held: the
client then asks for what is behind the tokens it has.

The engine computes in float32: greedy answers of a low-precision engine depend on who else is in
the batch, kills or not. A question whose answer does so all the same is left out beforehand.
"""

import argparse
import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx
import numpy as np
from rich.console import Console
from rich.table import Table

from adapter_cache.valkey_server import ValkeyServer
from app.api_client import ApiClient
from app.demo_adapters import publish_adapters
from benchmarks.chaos_client import Question, Story, follow
from benchmarks.chaos_monkey import KINDS, Kill, Monkey
from benchmarks.command import fast_folder, make_parser
from benchmarks.process_tree import server_process
from benchmarks.record import write_record
from benchmarks.served import served
from benchmarks.uploads import publish, write_uploads
from flora.layout import AdapterLayout
from replicas.echo_engine import EchoEngine

NUM_CLIENTS = 32
NUM_QUESTIONS = 48
_SUBJECTS = ("sea", "war", "love", "bread", "stars", "money", "winter", "music")
_FORMS = ("Write a long story about the {}.", "Explain to a child what the {} is.")
_DEMO = Path("flora/demo/adapters")
_BREAK_AFTER_KILL_S = 5.0
console = Console(stderr=True)


def main() -> None:
    """Run it, print what was seen, and write the record."""
    args = parse_args()
    with fast_folder() as folder:
        stories, kills, num_left_out = run(args, folder)
    metrics = measure(stories, kills)
    show(metrics, stories, kills)
    path = write_record(
        args.json,
        name="chaos",
        question=(__doc__ or "").partition("\n")[0].removeprefix("Question: "),
        config={
            "seconds": args.seconds,
            "every_s": args.every,
            "engine": args.engine,
            "replicas": args.replicas,
            "doors": 2,
            "clients": NUM_CLIENTS,
            "tokens": args.tokens,
            "kinds": list(args.kinds),
            "questions_left_out": num_left_out,
        },
        seed=args.seed,
        warmup=0,
        repeats=1,
        metrics=metrics,
        ceiling="failed_streams 0, wrong_tokens 0",
        verdict=verdict(metrics),
    )
    console.print(f"record: {path}")


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = make_parser("chaos", __doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--every", type=float, default=5.0, help="seconds from kill to kill")
    parser.add_argument("--engine", choices=("vllm", "echo"), default="vllm")
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def run(args: argparse.Namespace, folder: Path) -> tuple[list[tuple[Story, bool]], list[Kill], int]:
    """The server, the questions, the chaos: each story with whether its tokens are right."""
    valkey = ValkeyServer.start(folder / "store")
    rng = np.random.default_rng(args.seed)
    options = {
        "cache.redis_url": valkey.url,
        "cache.object_store_url": f"file://{folder / 'objects'}",
        "server.num_ingress_replicas": 2,
        "replica.engine": args.engine,
        "replica.num_replicas": args.replicas,
        "replica.num_cpus": 0.1,
        "replica.num_threads": 1,
        "replica.dtype": "float32",
        "replica.max_model_len_tokens": 1024,
        "replica.kv_cache_bytes": 1 << 29,
        "replica.echo_step_s": 0.03,
    }
    flags = [part for name, value in options.items() for part in ("--set", f"{name}={value}")]
    try:
        with served(args.model, folder, console, *flags) as url:
            names = publish_demo(url) if args.engine == "vllm" else publish(url, echo_uploads())
            questions = make_questions(args.model.name.lower(), names, args.tokens)
            server = server_process(int(url.rpartition(":")[2]))
            monkey = Monkey(server, valkey, args.kinds, args.every, rng)
            return asyncio.run(chaos(url, questions, monkey, args.seconds, rng))
    finally:
        valkey.stop()


def publish_demo(url: str) -> list[str]:
    """The demo adapters; their names."""
    with ApiClient(url) as api:
        return list(publish_adapters(api, _DEMO, console))


def echo_uploads() -> list[tuple[bytes, bytes]]:
    """Adapters for the engine without a model."""
    info = asyncio.run(EchoEngine().start())
    return write_uploads(AdapterLayout.from_json(info.layout_json), 3)


def make_questions(base: str, names: Sequence[str], num_tokens: int) -> list[Question]:
    """Different prompts for the base and for each adapter."""
    prompts = [form.format(subject) for subject in _SUBJECTS for form in _FORMS]
    models = [base, *(f"{base}:{name}" for name in names)]
    pairs = [(models[i % len(models)], prompts[i % len(prompts)]) for i in range(NUM_QUESTIONS)]
    pairs = [(m, f"{p} Number {i}.") for i, (m, p) in enumerate(pairs)]
    return [Question(model, prompt, num_tokens) for model, prompt in pairs]


async def chaos(
    url: str,
    questions: Sequence[Question],
    monkey: Monkey,
    seconds: float,
    rng: np.random.Generator,
) -> tuple[list[tuple[Story, bool]], list[Kill], int]:
    """What is right is found out first, in two mixtures of the same questions."""
    limits = httpx.Limits(max_connections=2 * NUM_CLIENTS)
    stories: list[tuple[Story, bool]] = []
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits) as http:
        with console.status("asking in peace"):
            right = await stable_answers(http, questions, rng)
        console.print(f"{len(right)} of {len(questions)} questions have one answer")
        asked = list(right)
        is_over = asyncio.Event()

        async def client(number: int) -> None:
            order = np.random.default_rng((number, 1))
            while not is_over.is_set():
                question = asked[int(order.integers(len(asked)))]
                story = await follow(http, question)
                stories.append((story, story.token_ids == right[question]))

        clients = [asyncio.create_task(client(number)) for number in range(NUM_CLIENTS)]
        await monkey.run(seconds)
        is_over.set()
        with console.status("waiting for the last streams"):
            await asyncio.gather(*clients)
    return stories, monkey.kills, len(questions) - len(right)


async def stable_answers(
    http: httpx.AsyncClient, questions: Sequence[Question], rng: np.random.Generator
) -> Mapping[Question, list[int]]:
    """The answers that are the same in two mixtures. Raises RuntimeError where one is missing."""
    rounds: list[dict[Question, list[int]]] = []
    for size in (NUM_CLIENTS, 8):
        answers: dict[Question, list[int]] = {}
        order = [questions[i] for i in rng.permutation(len(questions))]
        for start in range(0, len(order), size):
            part = order[start : start + size]
            for question, story in zip(
                part, await asyncio.gather(*(follow(http, q) for q in part)), strict=True
            ):
                if story.failure or len(story.token_ids) != question.num_tokens:
                    raise RuntimeError(f"{question}: {story.failure or len(story.token_ids)}")
                answers[question] = story.token_ids
        rounds.append(answers)
    return {q: answer for q, answer in rounds[0].items() if rounds[1][q] == answer}


def measure(stories: Sequence[tuple[Story, bool]], kills: Sequence[Kill]) -> dict[str, float]:
    """What clients saw, and how long each kind of kill was felt."""
    door_kills_s = [kill.at_s for kill in kills if kill.kind == "door"]
    lost = [at_s for story, _ in stories for at_s in story.lost_at_s]
    explained = [at_s for at_s in lost if _is_after(at_s, door_kills_s)]
    metrics: dict[str, float] = {
        "streams": len(stories),
        "failed_streams": sum(bool(story.failure) for story, _ in stories),
        "wrong_tokens": sum(not right and not story.failure for story, right in stories),
        "tokens": sum(len(story.token_ids) for story, _ in stories),
        "refusals_503": sum(story.refusals for story, _ in stories),
        "kills": len(kills),
        "lost_connections": len(lost),
        "lost_connections_unexplained": len(lost) - len(explained),
    }
    felt: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for kill in kills:
        felt[kill.kind] += slowest_s(stories, kill)
    everything = [gap for gaps in felt.values() for gap in gaps]
    metrics["recovery_s_p50"] = _quantile(everything, 0.5)
    metrics["recovery_s_p95"] = _quantile(everything, 0.95)
    for kind, gaps in felt.items():
        if gaps:
            metrics[f"{kind}_kills"] = len(gaps)
            metrics[f"{kind}_recovery_s_p50"] = _quantile(gaps, 0.5)
            metrics[f"{kind}_recovery_s_p95"] = _quantile(gaps, 0.95)
    return metrics


def slowest_s(stories: Sequence[tuple[Story, bool]], kill: Kill) -> list[float]:
    """From a kill until the last of the streams under way went on; nothing where there was none."""
    gaps_s = [gap for story, _ in stories if (gap := _felt_s(story, kill.at_s)) is not None]
    return [max(gaps_s)] if gaps_s else []


def _is_after(at_s: float, kills_s: Sequence[float]) -> bool:
    return any(0 <= at_s - kill_s < _BREAK_AFTER_KILL_S for kill_s in kills_s)


def _felt_s(story: Story, kill_s: float) -> float | None:
    """From a kill to the next token of a stream that was under way; None where it was not."""
    if not story.token_at_s or not story.token_at_s[0] < kill_s < story.token_at_s[-1]:
        return None
    return next(at_s for at_s in story.token_at_s if at_s >= kill_s) - kill_s


def _quantile(values: Sequence[float], share: float) -> float:
    return float(np.quantile(values, share)) if values else 0.0


def verdict(metrics: Mapping[str, float]) -> str:
    """In words."""
    return (
        f"{metrics['failed_streams']:.0f} of {metrics['streams']:.0f} streams failed and "
        f"{metrics['wrong_tokens']:.0f} differ, through {metrics['kills']:.0f} kills; the slowest "
        f"stream went on after {metrics['recovery_s_p95']:.1f} s (p95 of kills)"
    )


def show(
    metrics: Mapping[str, float], stories: Sequence[tuple[Story, bool]], kills: Sequence[Kill]
) -> None:
    """For people: each kill and how long it was felt, and the sums."""
    for kill in kills:
        felt = "".join(f"felt for {gap:.1f} s" for gap in slowest_s(stories, kill))
        console.print(f"{kill.at_s - kills[0].at_s:6.1f} s  {kill.kind:12} {felt}")
    table = Table("metric", "value")
    for name, value in metrics.items():
        table.add_row(name, f"{value:.2f}" if value % 1 else f"{value:.0f}")
    console.print(table)
    for why, number in Counter(story.failure for story, _ in stories if story.failure).items():
        console.print(f"{number} streams failed: {why}", markup=False)
    console.print(verdict(metrics))


if __name__ == "__main__":
    main()
