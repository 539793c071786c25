"""`flora eval`: how good an adapter is, on this machine or behind a server."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contracts.errors import InvalidRequest

if TYPE_CHECKING:
    from flora.eval.sandbox import Sandbox
    from flora.eval.subject import Subject
    from flora.eval.tasks import Finding

evals = typer.Typer(no_args_is_help=True, help="How good an adapter is.")

MODEL_FOLDER = "models/smollm2-135m-instruct"
LANGUAGES = "pl,rb,lua,d,rs,rkt,php,js,sh"

Model = Annotated[str, typer.Option(help="A folder; with --url, as `base:adapter`.")]
Adapter = Annotated[Path | None, typer.Option(help="A PEFT folder: FLORA, LORA or IA3.")]
Url = Annotated[str | None, typer.Option(help="A running server that answers instead.")]
ApiKey = Annotated[str | None, typer.Option("--api-key", "--key", help="Better: FLORA_API_KEY.")]
Json = Annotated[Path | None, typer.Option("--json", help="Where the figures go.")]
Limit = Annotated[int | None, typer.Option(min=1, help="The first so many alone.")]
Seed = Annotated[int, typer.Option(help="Of samples and intervals.")]


@evals.command("bpb")
def bpb(
    data: Annotated[Path, typer.Argument(help="JSON lines as for training, or plain text.")],
    model: Model = MODEL_FOLDER,
    adapter: Adapter = None,
    url: Url = None,
    api_key: ApiKey = None,
    limit: Limit = None,
    max_characters: Annotated[int, typer.Option(min=2, help="Longer texts are cut.")] = 2000,
    seed: Seed = 0,
    json_: Json = None,
) -> None:
    """Bits per byte and perplexity of held-out text."""
    from flora.eval.passages import read_passages
    from flora.eval.tasks import bits_per_byte

    passages = read_passages(data, max_characters)[:limit]
    subject = subject_of(model, adapter, url, api_key)
    finding = bits_per_byte(subject, passages, seed)
    config = {"data": data.name, "max_characters": max_characters, "seed": seed}
    report("bpb", {**config, **named(model, adapter, url)}, {data.name: finding}, {}, json_)


@evals.command("intent")
def intent(
    names: Annotated[list[str], typer.Argument(help="banking77, or domains of CLINC150.")],
    data: Annotated[Path, typer.Option()] = Path("../shared/data/intent_tenants"),
    labels: Annotated[bool, typer.Option(help="The prompt names all labels.")] = True,
    model: Model = MODEL_FOLDER,
    adapter: Adapter = None,
    url: Url = None,
    api_key: ApiKey = None,
    limit: Limit = None,
    seed: Seed = 0,
    json_: Json = None,
) -> None:
    """Accuracy of intents named in words."""
    from flora.eval.intent_data import read_intents
    from flora.eval.tasks import intent_accuracy

    sets = {name: read_intents(data, name) for name in names}
    subject = subject_of(model, adapter, url, api_key)
    found = {
        name: intent_accuracy(subject, tenant, limit=limit, with_labels=labels, seed=seed)
        for name, tenant in sets.items()
    }
    config = {"labels_in_prompt": labels, "limit": limit, "seed": seed}
    report("intent", {**config, **named(model, adapter, url)}, found, {}, json_)


@evals.command("wer")
def wer(
    data: Annotated[Path, typer.Argument(help='JSON lines of {"reference", "hypothesis"}.')],
    characters: Annotated[bool, typer.Option(help="Characters instead of words.")] = False,
    seed: Seed = 0,
    json_: Json = None,
) -> None:
    """Word error rate of transcripts."""
    from flora.eval.tasks import word_errors

    finding = word_errors(read_pairs(data), characters=characters, seed=seed)
    config = {"data": data.name, "characters": characters, "seed": seed}
    report("wer", config, {data.name: finding}, {}, json_)


@evals.command("multipl-e")
def multipl_e(
    languages: Annotated[str, typer.Option(help="Extensions, with commas.")] = LANGUAGES,
    data: Annotated[Path, typer.Option()] = Path("../shared/data/multipl_e_humaneval"),
    samples: Annotated[int, typer.Option(min=1, help="Completions a problem.")] = 100,
    temperature: Annotated[float, typer.Option(min=0)] = 0.1,
    top_p: Annotated[float, typer.Option(min=0, max=1)] = 0.95,
    max_tokens: Annotated[int, typer.Option(min=1)] = 512,
    sandbox: Annotated[bool, typer.Option(help="No: runs what a model wrote, unguarded.")] = True,
    model: Model = MODEL_FOLDER,
    adapter: Adapter = None,
    url: Url = None,
    api_key: ApiKey = None,
    limit: Limit = None,
    seed: Seed = 0,
    json_: Json = None,
) -> None:
    """pass@k of programs in nine languages, run in a sandbox."""
    from rich.console import Console

    from flora.eval.multipl_e import read_problems, require_usable
    from flora.eval.subject import Drawing
    from flora.eval.tasks import pass_rates
    from flora.eval.toolchains import find_toolchain

    runner = runner_of(sandbox)
    problems = {name: read_problems(data, name, limit) for name in languages.split(",")}
    subject = subject_of(model, adapter, url, api_key)
    drawing = Drawing(max_tokens, temperature, top_p, samples, seed=seed)
    found, skipped = {}, {}
    with Console(stderr=True).status("evaluating") as status:
        for name, tasks in problems.items():
            try:
                toolchain = require_usable(name, find_toolchain(name), runner)
            except InvalidRequest as error:
                skipped[name] = str(error)
                continue
            found[name] = pass_rates(subject, tasks, toolchain, runner, drawing, status.update)
    sampling = {"samples": samples, "temperature": temperature, "top_p": top_p}
    config = {**sampling, "max_tokens": max_tokens, "limit": limit, "sandbox": sandbox}
    said = {**config, "seed": seed, **named(model, adapter, url)}
    report("multipl-e", said, found, skipped, json_)


def runner_of(sandbox: bool) -> "Sandbox":
    """Where programs run. Raises InvalidRequest where they cannot be isolated and have to be."""
    from flora.eval.sandbox import Sandbox

    runner = Sandbox("namespaces" if sandbox else "limits")
    runner.require()
    if not sandbox:
        warning = "NO SANDBOX: programs that a model wrote can read your files and use the network"
        typer.secho(warning, fg="red", bold=True, err=True)
    return runner


def subject_of(model: str, adapter: Path | None, url: str | None, key: str | None) -> "Subject":
    """Behind `url` where there is one, else on this machine. Raises InvalidRequest."""
    if url is not None:
        from app.config import read_api_key
        from app.eval_client import ServedSubject

        if adapter is not None:
            raise InvalidRequest("a served adapter is named by --model base:adapter", "adapter")
        return ServedSubject(url, read_api_key() if key is None else key, model)
    from flora.eval.local_model import LocalModel

    return LocalModel(Path(model), adapter)


def named(model: str, adapter: Path | None, url: str | None) -> dict[str, Any]:
    """The subject as a record names it: no folder of this machine."""
    name = model if url is not None else Path(model).name
    return {"model": name, "adapter": adapter.name if adapter else None, "served": url is not None}


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Lines of {"reference", "hypothesis"}. Raises InvalidRequest."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines if line.strip()]
        return [(str(row["reference"]), str(row["hypothesis"])) for row in rows]
    except OSError as error:
        raise InvalidRequest(f"{path}: {error.strerror}", "data") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidRequest(
            f'{path.name}: each line needs "reference" and "hypothesis"', "data"
        ) from error


def report(
    task: str,
    config: Mapping[str, Any],
    findings: "Mapping[str, Finding]",
    skipped: Mapping[str, str],
    path: Path | None,
) -> None:
    """Shows the figures, and writes them where that is asked for."""
    from rich.console import Console

    from app.eval_report import table_of, to_json

    Console(width=120).print(table_of(task, findings, skipped))
    if path is not None:
        path.write_text(to_json(task, config, findings, skipped), encoding="utf-8")
