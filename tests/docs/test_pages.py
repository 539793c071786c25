"""The pages that are made: complete, and each link of each of them leads to one of the others."""

import json
import posixpath
import re
from collections.abc import Mapping
from typing import Any

import pytest
import typer.main
import yaml

from app.cli import app
from app.protos.flora.v1 import flora_pb2 as pb
from benchmarks.record import RESULTS
from docs.hooks.benchmark_pages import record_page
from docs.hooks.cli_reference import commands
from docs.hooks.closed_site import foreign_loads
from docs.hooks.formulas import to_mathml
from docs.hooks.http_reference import openapi
from docs.hooks.markdown_table import table
from docs.hooks.pages import Site, make_site
from tests.docs.snippets import ROOT


@pytest.fixture(scope="module")
def site() -> Site:
    return make_site(ROOT)


def test_the_command_line_is_whole(site: Site) -> None:
    page = site.pages["reference/cli.md"]
    known = dict(commands(typer.main.get_command(app), "flora"))
    assert len(known) > 20
    assert [words for words in known if f"\n## {words}\n" not in page] == []
    options = {name for each in known.values() for param in each.params for name in param.opts}
    assert {name for name in options if name.startswith("--") and name not in page} == set()


def test_http_is_whole(site: Site) -> None:
    page, document = site.pages["reference/http.md"], openapi()
    routes = [f"{m.upper()} {path}" for path, found in document["paths"].items() for m in found]
    assert [route for route in routes if f"## {route}\n" not in page] == []
    schemas: Mapping[str, Any] = document["components"]["schemas"]
    fields = {name for schema in schemas.values() for name in schema.get("properties", {})}
    assert {name for name in fields if f"| `{name}` |" not in page} == set()


def test_grpc_is_whole_with_its_comments(site: Site) -> None:
    page = site.pages["reference/grpc.md"]
    names = [*pb.DESCRIPTOR.services_by_name, *pb.DESCRIPTOR.message_types_by_name]
    names += pb.DESCRIPTOR.enum_types_by_name
    titles = {title.rpartition(".")[2] for title in re.findall(r"^###? (.*)$", page, re.MULTILINE)}
    assert set(names) <= titles
    for message in pb.DESCRIPTOR.message_types_by_name.values():
        assert [field.name for field in message.fields if f"| `{field.name}` |" not in page] == []
    assert "| `logit_bias` | map of `uint32` to `double` |" in page
    assert "One whole answer.\n\nTakes [GenerateRequest](#generaterequest)" in page


def test_every_record_has_a_page_with_all_of_its_metrics(site: Site) -> None:
    for path in RESULTS.glob("*.json"):
        page = site.pages[f"benchmarks/{path.stem}.md"]
        record = json.loads(path.read_text())
        assert [name for name in record["metrics"] if f"| `{name}` |" not in page] == []
        assert record["commit"][:12] in page


def test_a_number_has_four_digits_and_its_spread() -> None:
    record = json.loads((RESULTS / "stall.json").read_text())
    record |= {"metrics": {"a_ms": 12.34567, "b": 123456.7, "c": 3.0}}
    record["spread"] = {"a_ms": {"min": 1.0, "median": 12.3, "max": 20.5, "n": 7}}
    page = record_page(record)
    assert "| `a_ms` | 12.35 | 1 to 20.5, 7 |" in page
    assert "| `b` | 123,457 |" in page
    assert "| `c` | 3 |" in page


def test_links_lead_to_pages(site: Site) -> None:
    found = set(site.pages) | set(site.copies)
    pictures = {path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.*g")}
    for address, text in site.pages.items():
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            if not re.match("[a-z]+:", target) and "](" not in target:
                path = posixpath.normpath(posixpath.join(posixpath.dirname(address), target))
                assert path in found | pictures, f"{address}: {target}"


def test_what_the_navigation_names_exists(site: Site) -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    nav = yaml.safe_load(text[text.index("\nnav:") : text.index("\nvalidation:")])["nav"]
    named = re.findall(r"[\w/-]+\.md", json.dumps(nav))
    assert set(named) <= set(site.pages)
    assert len(named) == len(set(named))


def test_what_a_browser_would_fetch_from_elsewhere_is_seen() -> None:
    html = """<link rel="stylesheet" href="https://fonts.example.org/a.css">
    <script src="a.js"></script>
    <link rel="canonical" href="https://example.org/"><a href="https://example.org/">x</a>
    <img src="//cdn.example.org/a.png"><img src="a.png">"""
    assert foreign_loads(html) == ["https://fonts.example.org/a.css", "//cdn.example.org/a.png"]


def test_a_formula_needs_nothing_but_a_browser() -> None:
    made = to_mathml(r"y = A \circ (W (B \circ x))")
    assert made.startswith('<div class="formula"><math')
    assert "<mi>W</mi>" in made


def test_a_cell_stays_a_cell() -> None:
    assert (
        table(("a", "b"), [("x|y", "one\ntwo")]) == "| a | b |\n| --- | --- |\n| x\\|y | one two |"
    )
    assert table(("a",), []) == ""
