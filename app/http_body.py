"""Request bodies: read up to a limit, then parsed."""

from collections.abc import AsyncGenerator
from typing import TypeVar

from fastapi import HTTPException, Request
from pydantic import BaseModel, ValidationError

from app.http_errors import invalid_request

Body = TypeVar("Body", bound=BaseModel)


async def bounded_chunks(request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    """The body in chunks; stops with status 413 before it holds a byte over the limit.

    An announced length over the limit is refused before anything is read.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > max_bytes:
        raise _too_large(max_bytes)
    num_bytes = 0
    async for chunk in request.stream():
        num_bytes += len(chunk)
        if num_bytes > max_bytes:
            raise _too_large(max_bytes)
        yield chunk


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The whole body. Status 413 over the limit."""
    return b"".join([chunk async for chunk in bounded_chunks(request, max_bytes)])


async def parse_body(request: Request, kind: type[Body], max_bytes: int) -> Body:
    """The body as a `kind`. Raises InvalidRequest that names the field at fault."""
    return parse_json(await read_body(request, max_bytes), kind)


def parse_json(body: bytes, kind: type[Body]) -> Body:
    """`body` as a `kind`. Raises InvalidRequest that names the field at fault."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise invalid_request(error) from None


def _too_large(max_bytes: int) -> HTTPException:
    return HTTPException(413, f"The body is over the {max_bytes} bytes that are allowed here.")
