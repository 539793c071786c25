"""The documents' code, as far as it needs no server: tests/end_to_end/one_server has the rest."""

import json
from pathlib import Path

import pytest
from peft import IA3Config

from flora.adapter_files import write_adapter
from tests.docs.reader import DRAWN, Reader, require_known, require_readable, settle
from tests.docs.snippets import PAGES, Snippet, all_snippets, snippets_of
from tests.flora.adapters import make_adapter
from tests.flora.convert.loras import representable_lora
from tests.flora.importers.sources import trained
from tests.flora.models import llama_layout, make_model_dir

RUN = ("bash", "console", "python")
MIN_RUN = 25
MARKED = [snippet for snippet in all_snippets() if snippet.reason]
READ = [snippet for snippet in all_snippets() if snippet.language not in (*RUN, *DRAWN)]


def runs_here(snippet: Snippet) -> bool:
    return snippet.language in RUN and not snippet.reason and not snippet.needs_server


HERE = [page for page in PAGES if any(map(runs_here, snippets_of(page)))]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages name, for a model that answers at once."""
    folder = tmp_path_factory.mktemp("files")
    make_model_dir(folder / "models" / "smollm2-135m-instruct")
    rows = [json.dumps({"prompt": f"number {i}", "completion": "one"}) for i in range(12)]
    (folder / "data" / "objects").mkdir(parents=True)
    (folder / "tenants").mkdir()
    for name in ("talk", "prompts", "held-out", "tenants/ann", "tenants/bob"):
        (folder / f"{name}.jsonl").write_text("\n".join(rows))
    pair = json.dumps({"reference": "one two", "hypothesis": "one too"})
    (folder / "transcripts.jsonl").write_text(f"{pair}\n{pair}\n")
    weights, config = write_adapter(make_adapter(llama_layout()), "bfloat16")
    (folder / "my-adapter").mkdir()
    (folder / "my-adapter" / "adapter_model.safetensors").write_bytes(weights)
    (folder / "my-adapter" / "adapter_config.json").write_bytes(config)
    ia3 = IA3Config(target_modules=["k_proj"], feedforward_modules=[])
    trained("llama", ia3, folder / "my-ia3-adapter")
    representable_lora(folder / "my-lora")
    return folder


@pytest.mark.parametrize("page", HERE, ids=lambda page: page.name)
def test_blocks_run(
    page: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Reader(settle(tmp_path, files))
    monkeypatch.chdir(tmp_path)
    for snippet in filter(runs_here, snippets_of(page)):
        reader.run(snippet)


@pytest.mark.parametrize("snippet", MARKED, ids=str)
def test_blocks_that_are_not_run_say_why_and_name_what_there_is(snippet: Snippet) -> None:
    assert snippet.language in RUN
    assert len(snippet.reason) > 8
    for command in snippet.commands:
        require_known(command)


@pytest.mark.parametrize("snippet", READ, ids=str)
def test_blocks_of_data_are_read(snippet: Snippet) -> None:
    require_readable(snippet)


def test_no_block_escapes() -> None:
    """Each fence of a page is one of the blocks that are looked at, and many of them are run."""
    num_fences = sum(page.read_text().count("\n```") for page in PAGES)
    assert 2 * len(all_snippets()) == num_fences
    run = [s for s in all_snippets() if s.language in RUN and not s.reason]
    assert len(run) > MIN_RUN
