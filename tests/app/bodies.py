"""Good request bodies, and a way to send them."""

from typing import Any

import httpx
import orjson

from tests.app.parts import make_client, make_door

CHAT: dict[str, Any] = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "hi"}],
    "max_tokens": 3,
}
TEXT: dict[str, Any] = {"model": "tiny", "prompt": "hi", "max_tokens": 3}


async def post(body: Any, path: str = "/v1/chat/completions", **options: Any) -> httpx.Response:
    async with make_client(make_door(**options)) as client:
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        return await client.post(path, content=content)
