"""Requests that nobody should send: hypothesis strategies of JSON and multipart bodies."""

import json
from typing import Any

from hypothesis import strategies as st

from tests.flora import hostile_files

_CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
_TEXT = {"model": "tiny", "prompt": "hi", "max_tokens": 3}
PATHS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": _CHAT,
    "/v1/completions": _TEXT,
    "/v1/embeddings": {"model": "tiny", "input": "hi"},
    "/v1/tokenize": {"prompt": "hi"},
    "/v1/detokenize": {"tokens": [1, 2]},
    "/v1/adapters/a/rollback": {"version": 1},
}
"""Routes with a JSON body, and a good one."""

_FIELDS = (
    *("model", "prompt", "messages", "input", "max_tokens", "max_completion_tokens", "n"),
    *("temperature", "top_p", "top_k", "min_p", "seed", "stop", "stop_token_ids", "logprobs"),
    *("top_logprobs", "logit_bias", "presence_penalty", "repetition_penalty", "min_tokens"),
    *("stream", "stream_options", "echo", "best_of", "user", "tools", "tool_choice"),
    *("response_format", "ignore_eos", "version", "tokens", "priority", "\x00", "\ud800"),
    *("resume_token_ids", "return_token_ids"),
)
_TEXTS = ("", "\x00", "\ud800", "\U0010ffff" * 50, "a" * 3000, "tiny:../../etc/passwd", "tiny:\x00")


def values() -> st.SearchStrategy[Any]:
    """What a field should not hold."""
    return st.one_of(
        hostile_files.json_values(),
        st.sampled_from(_TEXTS),
        st.sampled_from([10**400, -(10**400), 1e308, -0.0, 2**63, float("nan"), float("inf")]),
        st.dictionaries(st.integers(-(2**40), 2**40).map(str), st.floats(), max_size=20),
        st.just({str(token): 100 for token in range(5000)}),
        st.just([{"role": "user", "content": "x"}] * 300),
        st.just(["x"] * 3000),
        st.lists(st.integers(-(2**70), 2**70), max_size=5),
        st.fixed_dictionaries({"type": st.sampled_from(["json_schema", "json_object", "text"])}),
    )


def json_bodies(good: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """A good body with wrong fields, any JSON, deep nesting, repeated keys, and no JSON at all."""
    wrong = st.dictionaries(st.sampled_from(_FIELDS), values(), min_size=1, max_size=3)
    changed = wrong.map(lambda fields: json.dumps(good | fields).encode())
    anything = values().map(lambda value: json.dumps(value).encode())
    depth = st.integers(1, 100_000)
    nested = depth.map(lambda n: b'{"model":"tiny","prompt":' + b"[" * n + b"]" * n + b"}")
    opened = st.tuples(st.sampled_from([b"[", b'{"a":', b'"', b"1"]), depth).map(
        lambda pair: (pair[0] * pair[1])[:200_000]
    )
    repeated = st.lists(st.sampled_from(_FIELDS), max_size=30).map(
        lambda names: ("{" + ",".join(f"{json.dumps(name)}:1" for name in names) + "}").encode()
    )
    text = json.dumps(good).encode()
    cut = st.integers(0, len(text)).map(lambda at: text[:at])
    return st.one_of(changed, changed, anything, nested, opened, repeated, cut, st.binary())


def content_types() -> st.SearchStrategy[str]:
    """Content types of uploads: right ones, other boundaries, none, nonsense."""
    return st.sampled_from(
        [
            "multipart/form-data; boundary=frontier",
            "multipart/form-data; boundary=other",
            "multipart/form-data; boundary=",
            "multipart/form-data",
            'multipart/form-data; boundary="frontier',
            "multipart/mixed; boundary=frontier",
            f"multipart/form-data; boundary={'x' * 300}",
            "application/octet-stream",
            "application/json",
            "",
            "\x00",
        ]
    )


def multipart_bodies() -> st.SearchStrategy[bytes]:
    """Forms of any parts: paths for names, fields for files, repeated, cut off, without an end."""
    filenames = st.sampled_from(
        [
            "adapter_config.json",
            "adapter_model.safetensors",
            "../../../tmp/flora-escaped.safetensors",
            "/tmp/flora-escaped.json",
            "adapter_model.bin",
            "x.pkl",
            "",
            "a\x00.json",
            "a" * 3000 + ".json",
        ]
    )
    content = st.one_of(hostile_files.weights(), hostile_files.configs(), st.binary(max_size=100))
    parts = st.lists(st.tuples(filenames, content, st.booleans(), st.booleans()), max_size=5)
    whole = st.tuples(parts, st.booleans()).map(lambda form: _form(*form))
    cut = st.tuples(whole, st.floats(0, 1)).map(lambda pair: pair[0][: int(len(pair[0]) * pair[1])])
    return st.one_of(whole, whole, cut, st.binary(max_size=200))


def _form(parts: list[tuple[str, bytes, bool, bool]], has_end: bool) -> bytes:
    body = b""
    for filename, content, is_file, has_headers in parts:
        body += b"--frontier\r\n"
        if has_headers:
            name = f'; filename="{filename}"' if is_file else ""
            body += f'Content-Disposition: form-data; name="f"{name}\r\n'.encode()
        body += b"\r\n" + content + b"\r\n"
    return body + (b"--frontier--\r\n" if has_end else b"")
