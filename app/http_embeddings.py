"""POST /v1/embeddings: known, and refused with the reason."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import Field
from starlette.responses import Response

from app.door import Door
from app.http_auth import requires
from app.http_body import parse_body
from app.http_schemas import Text, TokenId
from app.http_structure_schemas import Wire
from contracts.access import Caller, Scope
from contracts.errors import InvalidRequest


class EmbeddingBody(Wire):
    """POST /v1/embeddings, as the OpenAI API has it."""

    model: Annotated[str, Field(min_length=1)]
    input: str | list[str] | list[TokenId] | list[list[TokenId]]
    dimensions: Annotated[int, Field(ge=1)] | None = None
    encoding_format: Literal["float", "base64"] | None = None
    user: Text | None = None


def embedding_routes(door: Door) -> APIRouter:
    """The engines behind `door` run models that generate: they have no embeddings to give."""
    router = APIRouter(prefix="/v1")
    generator = Annotated[Caller, Depends(requires(door, Scope.GENERATE))]

    @router.post("/embeddings")
    async def embed(request: Request, caller: generator) -> Response:
        """Refused: the model generates text."""
        body = await parse_body(request, EmbeddingBody, door.limits.max_body_bytes)
        name = door.model(body.model)
        name.ref(caller)
        raise InvalidRequest(
            f"The model '{name.base}' generates text and has no embeddings.", "model"
        )

    return router
