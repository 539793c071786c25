"""The console's files: public, whole, closed to everything from elsewhere."""

import re
from pathlib import Path

import pytest

from app.http_console import HEADERS, console_files
from contracts.access import Caller
from contracts.errors import Unauthorized
from tests.app.parts import make_client, make_door

FILES = console_files()
TEXTS = {name: file.body.decode() for name, file in FILES.items()}
SCRIPTS = [name for name in TEXTS if name.endswith(".js")]


class Nobody:
    async def caller(self, authorization: str | None) -> Caller:
        raise Unauthorized("The API key is not valid.")


async def test_every_file_is_there_for_everybody_as_it_lies_on_disk() -> None:
    async with make_client(make_door(auth=Nobody())) as client:
        assert (await client.get("/v1/models")).status_code == 401
        for name, file in FILES.items():
            answer = await client.get(f"/console/{name}")
            assert (answer.status_code, answer.content) == (200, file.body)
            assert answer.headers["content-type"] == file.media_type
            assert {key: answer.headers[key] for key in HEADERS} == dict(HEADERS)
            again = await client.get(f"/console/{name}", headers={"if-none-match": file.etag})
            assert (again.status_code, again.content) == (304, b"")
    assert {Path(name).suffix for name in FILES} == {".html", ".css", ".js", ".svg"}


async def test_the_page_is_at_console_wherever_the_server_is() -> None:
    async with make_client(make_door()) as client:
        moved = await client.get("/console")
        assert (moved.status_code, moved.headers["location"]) == (307, "console/")
        page = await client.get("/console/")
        assert page.content == FILES["index.html"].body


@pytest.mark.parametrize(
    "path", ["none.js", "__init__.py", "../auth.py", "..%2fauth.py", "%2e%2e/auth.py", "a/b", "//"]
)
async def test_nothing_else_is_there(path: str) -> None:
    async with make_client(make_door()) as client:
        answer = await client.get(f"/console/{path}")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"


def test_the_policy_lets_nothing_in_from_elsewhere() -> None:
    policy = HEADERS["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "require-trusted-types-for 'script'" in policy
    for loose in ("unsafe", "*", "http:", "https:", "data:", "blob:"):
        assert loose not in policy


@pytest.mark.parametrize("name", TEXTS)
def test_a_file_names_no_other_host(name: str) -> None:
    hosts = set(re.findall(r"https?://[^\s\"'<>)]+", TEXTS[name]))
    assert hosts <= {"http://www.w3.org/2000/svg"}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_makes_no_markup_and_no_code_of_text(name: str) -> None:
    unsafe = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function"
    assert not re.search(unsafe, TEXTS[name])
    assert "localStorage" not in TEXTS[name]
    assert ("sessionStorage" in TEXTS[name]) == (name == "session.js")


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_import_leads_to_a_file_beside_it(name: str) -> None:
    imports = re.findall(r"from \"([^\"]+)\"", TEXTS[name])
    assert {path.removeprefix("./") for path in imports} <= FILES.keys()
    assert all(path.startswith("./") for path in imports)


def test_the_page_has_nothing_inline() -> None:
    page = TEXTS["index.html"]
    assert not re.search(r"<style|\son\w+=|\sstyle=|javascript:|<script(?![^>]*\bsrc=)", page)
    for link in re.findall(r"(?:src|href)=\"([^\"#]+)\"", page):
        assert link in FILES
