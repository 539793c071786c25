"""The documents name all that a reader can meet: codes, settings, routes, targets, packages."""

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import BaseModel

from app import http_errors
from app.config import Settings
from app.door import Door
from app.door_metrics import DoorMetrics
from app.http_api import create_app
from contracts.errors import ServingError

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
PACKAGES = sorted(path.parent.name for path in ROOT.glob("*/py.typed"))


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def error_classes(error: type[ServingError] = ServingError) -> Iterator[type[ServingError]]:
    """Every error with a code of its own; a group of errors may lend its code to one of them."""
    children = error.__subclasses__()
    if error.code not in {child.code for child in children}:
        yield error
    for child in children:
        yield from error_classes(child)


def settings(section: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and default of every setting in a section, whichever way it is declared."""
    if isinstance(section, BaseModel):
        names = list(type(section).model_fields)
    else:
        names = [field.name for field in dataclasses.fields(section)]
    for name in names:
        value = getattr(section, name)
        if isinstance(value, BaseModel) or dataclasses.is_dataclass(value):
            yield from settings(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def routes() -> list[str]:
    """ "METHOD /path" of every route; the routes do not depend on the door behind them."""
    paths = create_app(cast(Door, SimpleNamespace(metrics=DoorMetrics()))).openapi()["paths"]
    return [f"{method.upper()} {path}" for path, methods in paths.items() for method in methods]


def rows(text: str) -> set[tuple[str, ...]]:
    """Cells of every table row, without backticks."""
    lines = (line for line in text.splitlines() if line.startswith("| `"))
    return {tuple(cell.strip(" `") for cell in line.strip("|").split(" | ")) for line in lines}


def test_error_codes_are_documented_with_their_status_and_no_others() -> None:
    documented = {row[:3] for row in rows(page("docs/http-api.md")) if len(row) == 4}
    assert documented == {
        (error.code, str(http_errors.status_of(error(""))), "yes" if error.retryable else "no")
        for error in error_classes()
    }


def test_http_faults_are_documented() -> None:
    documented = {row[:2] for row in rows(page("docs/http-api.md")) if len(row) == 3}
    assert {(code, str(status)) for status, code in http_errors._HTTP_CODES.items()} <= documented


def test_every_setting_is_documented_with_its_default() -> None:
    documented = {(name, default) for name, default, *_ in rows(page("docs/settings.md"))}
    assert documented == {(name, json.dumps(v, default=str)) for name, v in settings(Settings())}


def test_every_route_is_documented_and_no_other() -> None:
    documented = {row[0] for row in rows(page("docs/http-api.md")) if re.match("[A-Z]+ /", row[0])}
    assert documented == {re.sub(":[a-z]+}", "}", route) for route in routes()}


def test_readme_names_every_make_target() -> None:
    targets = re.findall(r"^([a-z]+):.*##", page("Makefile"), re.MULTILINE)
    assert targets
    assert {target for target in targets if f"`make {target}`" not in page("README.md")} == set()


@pytest.mark.parametrize("name", ["README.md", "docs/architecture.md"])
def test_page_names_every_package(name: str) -> None:
    assert PACKAGES
    assert [package for package in PACKAGES if f"{package}/" not in page(name)] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8"))
    local = [link for link in links if not link.startswith("http")]
    assert [link for link in local if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_source_files_that_a_page_names_exist(path: Path) -> None:
    folders = "|".join([*PACKAGES, "tests"])
    named = re.findall(rf"`((?:{folders})/[\w/]+\.py)`", path.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = [int(path.name[:4]) for path in sorted((DOCS / "decisions").glob("*.md"))]
    assert numbers == list(range(1, len(numbers) + 1))
