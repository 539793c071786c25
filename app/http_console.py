"""GET /console: the console's files, the same for everybody. What it shows comes from the API."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from pathlib import PurePath

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

_PACKAGE = "app.console"
_INDEX = "index.html"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

HEADERS: Mapping[str, str] = {
    # Nothing from elsewhere, nothing inline, no markup made of data, no frame around it.
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "object-src 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Asked for again at each visit: a new version of the server brings all of its own files.
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file as it is sent."""

    body: bytes
    media_type: str
    etag: str


def console_files() -> dict[str, StaticFile]:
    """All files of the console by name. What is not here is not there: no path is ever joined."""
    found = {}
    for entry in files(_PACKAGE).iterdir():
        media_type = _TYPES.get(PurePath(entry.name).suffix)
        if media_type is not None:
            body = entry.read_bytes()
            found[entry.name] = StaticFile(body, media_type, f'"{sha256(body).hexdigest()[:32]}"')
    return found


def console_routes() -> APIRouter:
    """The page at /console/ and its files beside it; public, as it holds nobody's data."""
    router = APIRouter(prefix="/console", include_in_schema=False)
    known = console_files()

    @router.get("")
    async def console() -> Response:
        # Relative: right behind a proxy that puts all of it under a path.
        return RedirectResponse("console/", headers=dict(HEADERS))

    @router.get("/{name:path}")
    async def console_file(name: str, request: Request) -> Response:
        file = known.get(name or _INDEX)
        if file is None:
            raise HTTPException(404)
        headers = {**HEADERS, "ETag": file.etag}
        if request.headers.get("if-none-match") == file.etag:
            return Response(status_code=304, headers=headers)
        return Response(file.body, headers=headers, media_type=file.media_type)

    return router
