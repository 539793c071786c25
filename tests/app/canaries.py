"""Requests that carry a mark in every place that is the caller's to fill."""

import json
from typing import Any

from tests.app.parts import BASE, make_tokenizer
from tests.flora.adapters import make_bytes

CANARY = "canarybird"
"""What prompts, keys and files hold; nothing that a server writes may."""
ANSWER = " ".join(map(str, make_tokenizer().encode(CANARY)))
"""What the engine `echo` answers to it."""


def chat(content: str, **more: Any) -> dict[str, Any]:
    return {"model": BASE, "messages": [{"role": "user", "content": content}], **more}


def answered() -> list[dict[str, Any]]:
    """Requests that succeed, as arguments of an HTTP client."""
    text = {"model": BASE, "prompt": CANARY, "max_tokens": 40}
    bodies = [
        ("chat/completions", chat(CANARY, max_tokens=60, user=CANARY)),
        ("chat/completions", chat(CANARY, stop=[CANARY], max_tokens=30, stream=True)),
        ("completions", text),
        ("completions", {**text, "echo": True, "logprobs": 2, "n": 2}),
    ]
    return [{"method": "POST", "url": f"/v1/{path}", "json": body} for path, body in bodies]


def refused() -> list[dict[str, Any]]:
    """Requests that are the caller's mistakes."""
    text, talk = {"model": BASE, "prompt": "x"}, "/v1/chat/completions"
    posts: list[tuple[str, dict[str, Any]]] = [
        ("/v1/completions", {"json": {**text, "prompt": CANARY * 400}}),
        ("/v1/completions", {"json": {**text, "prompt": {CANARY: 1}}}),
        ("/v1/completions", {"json": {**text, CANARY: CANARY}}),
        ("/v1/completions", {"json": {**text, "max_tokens": CANARY}}),
        ("/v1/completions", {"content": b'{"prompt": "' + CANARY.encode()}),
        ("/v1/completions", {"content": CANARY.encode() * 300_000}),
        (talk, {"json": chat("x", tools=[{"type": CANARY}])}),
        (talk, {"json": chat("x", response_format={"type": CANARY})}),
        (talk, {"json": {**chat(CANARY), "model": f"{BASE}:nobody"}}),
    ]
    gets: list[tuple[str, dict[str, Any]]] = [
        (f"/{CANARY}", {}),
        ("/v1/models", {"headers": {"authorization": f"Bearer {CANARY}"}}),
        ("/v1/models", {"headers": {"authorization": f"Basic {CANARY}"}}),
        ("/v1/models", {"params": {"limit": CANARY}}),
    ]
    weights, config = make_bytes()
    bad_config = json.dumps({**json.loads(config), CANARY: CANARY}).encode()
    uploads: list[dict[str, Any]] = [
        {"files": {"config": bad_config, "weights": weights}},
        {"files": {"config": config, "weights": CANARY.encode()}},
        {"files": {CANARY: config}},
        {"content": CANARY.encode()},
    ]
    return [
        *({"method": "POST", "url": url, **rest} for url, rest in posts),
        *({"method": "GET", "url": url, **rest} for url, rest in gets),
        *({"method": "PUT", "url": "/v1/adapters/bad", **rest} for rest in uploads),
    ]


def odd() -> list[dict[str, Any]]:
    """Requests that succeed although their headers or queries hold what they should not."""
    headers = [
        {"x-request-id": f"{CANARY} {CANARY}"},
        {"traceparent": CANARY, "tracestate": CANARY},
        {"user-agent": CANARY, "cookie": CANARY},
    ]
    asked = [{"method": "GET", "url": "/v1/models", "headers": each} for each in headers]
    return [*asked, {"method": "GET", "url": f"/v1/models/{BASE}", "params": {"key": CANARY}}]
