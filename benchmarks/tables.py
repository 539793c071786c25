"""The README's results, made from the committed records: run it after a record has changed."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.plots import PICTURES, STACK_BARS
from benchmarks.record import RESULTS, ROOT

README = ROOT / "README.md"
_MARKED = re.compile(r"(<!-- results: [^>]*-->\n).*?(<!-- /results -->)", re.DOTALL)

ENGINE_ROWS = (
    ("base model", "base"),
    ("fLoRA rank 1", "flora_r1"),
    ("vLLM LoRA rank 1", "lora_r1"),
    ("vLLM LoRA rank 8", "lora_r8"),
)
COUNTS = (1, 8, 64, 256)


def render(engine: Mapping[str, Any], stack: Mapping[str, Any]) -> str:
    """The section's text. Every number is a median of its record."""
    machine = f"{engine['hardware']['cpu']}, {engine['hardware']['num_cores']} cores"
    return "\n".join(
        [
            f"One engine, SmolLM2-135M in bfloat16 on {machine}: 32 sequences with 32",
            "different adapters, 64 tokens in and 64 out. Every method has an engine of its own,",
            "the settings are the same, and they are measured in turn"
            f" ([record](benchmarks/results/engine.json), commit {engine['commit'][:7]}).",
            "",
            *_engine_table(engine["metrics"]),
            "",
            "vLLM does not compile CPU models with LoRA layers: its LoRA is eager in both columns.",
            f"{engine['verdict'][:1].upper()}{engine['verdict'][1:]}.",
            "",
            *_count_table(engine["metrics"]),
            "",
            *_stack_lines(stack["metrics"]),
        ]
    )


def _engine_table(metrics: Mapping[str, float]) -> list[str]:
    lines = ["| tokens/s (share of base) | eager | compiled |", "| --- | ---: | ---: |"]
    for title, name in ENGINE_ROWS:
        cells = [_speed(metrics, mode, name) for mode in ("eager", "compiled")]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return lines


def _speed(metrics: Mapping[str, float], mode: str, name: str) -> str:
    base = metrics[f"{mode}_base_tokens_per_s"]
    if name == "base":
        return f"{base:.0f}"
    share = metrics[f"{mode}_{name}_share_of_base"]
    return f"{base * share:.0f} ({share:.2f})"


def _count_table(metrics: Mapping[str, float]) -> list[str]:
    title = " | ".join(str(count) for count in COUNTS)
    lines = [f"| fLoRA's share by different adapters | {title} |"]
    lines.append("| --- |" + " ---: |" * len(COUNTS))
    for mode in ("eager", "compiled"):
        names = [f"{mode}_flora_r1_{count}_adapters_share_of_base" for count in COUNTS]
        shares = (f"{metrics[name]:.2f}" if name in metrics else "" for name in names)
        lines.append(f"| {mode} | {' | '.join(shares)} |")
    hold = metrics["activation_hold_ms_p50"]
    return [
        *lines,
        "",
        f"Activating a 0.5 MB adapter holds the engine loop for {hold:.2f} ms (median).",
    ]


def _stack_lines(metrics: Mapping[str, float]) -> list[str]:
    """What reaches streaming clients, ours and others'; a server that did not run has no row."""
    rows = [
        (title, name) for name, title in STACK_BARS.items() if f"{name}_tokens_per_s" in metrics
    ]
    table = ["| 32 streams on the same cores | tokens/s | share of the engine |"]
    table.append("| --- | ---: | ---: |")
    for title, name in rows:
        share = metrics.get(f"{name}_share_of_engine", 1.0)
        table.append(f"| {title} | {metrics[f'{name}_tokens_per_s']:.0f} | {share:.2f} |")
    return [
        *table,
        "",
        "![tokens per second by server](benchmarks/results/stack.svg)",
        "",
        "Through HTTP, 32 streaming clients with 32 different adapters on the same cores:"
        f" {metrics['http32_tokens_per_s']:.0f} tokens/s,",
        f"{metrics['http32_share_of_engine']:.2f} of the bare engine, and"
        f" {metrics['step_messages_per_token']:.3f} messages from the replica for each token"
        " ([record](benchmarks/results/stack.json)).",
    ]


def _other_lines(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line a record that has no table of its own: what was asked and what came out."""
    lines = ["| Question | Answer |", "| --- | --- |"]
    for record in records:
        name = record["name"]
        picture = f" ([picture](benchmarks/results/{name}.svg))" if name in PICTURES else ""
        path = f"benchmarks/results/{name}.json"
        lines.append(f"| [{record['question']}]({path}) | {record['verdict']}{picture} |")
    return lines


def updated(readme: str, section: str) -> str:
    """The README with its marked section replaced."""
    return _MARKED.sub(lambda marks: f"{marks[1]}{section}\n{marks[2]}", readme)


def section() -> str:
    """The section as the committed records have it."""
    records = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}
    main = render(records.pop("engine"), records.pop("stack"))
    return "\n".join([main, "", *_other_lines(records.values())]) if records else main


def main(path: Path = README) -> None:
    """Rewrite the README's section."""
    path.write_text(updated(path.read_text(encoding="utf-8"), section()), encoding="utf-8")


if __name__ == "__main__":
    main()
