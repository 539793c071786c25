"""Limits in headers: the caller's own deadline, and what its key has left in OpenAI's form."""

import math

from fastapi import Request

from app.quota import Standing
from contracts.errors import InvalidRequest

TIMEOUT_HEADER = "X-Request-Timeout-S"


def timeout_of(request: Request, most_s: float) -> float:
    """How long the request may take, in seconds: what its header says, at most `most_s`.

    Raises InvalidRequest.
    """
    text = request.headers.get(TIMEOUT_HEADER)
    if text is None:
        return most_s
    try:
        asked_s = float(text)
    except ValueError:
        asked_s = math.nan
    if not 0 < asked_s < math.inf:
        raise InvalidRequest(f"'{TIMEOUT_HEADER}' takes a number of seconds above 0.")
    return min(asked_s, most_s)


def limit_headers(standing: Standing | None) -> dict[str, str]:
    """`x-ratelimit-*` for a key with quotas."""
    if standing is None:
        return {}
    headers: dict[str, str] = {}
    for kind, most, left, reset_s in (
        ("requests", standing.max_requests, standing.remaining_requests, standing.reset_requests_s),
        ("tokens", standing.max_tokens, standing.remaining_tokens, standing.reset_tokens_s),
    ):
        if most is not None:
            headers[f"x-ratelimit-limit-{kind}"] = str(most)
            headers[f"x-ratelimit-remaining-{kind}"] = str(left)
            headers[f"x-ratelimit-reset-{kind}"] = duration(reset_s)
    return headers


def duration(seconds: float) -> str:
    """As OpenAI writes it: "20ms", "1.5s", "6m0s"."""
    milliseconds = math.ceil(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    text = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    return f"{minutes}m{text}" if minutes else text
