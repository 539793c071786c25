"""Uploads that nobody should send: hypothesis strategies of weights and of configs."""

import json
from typing import Any

from hypothesis import strategies as st

from tests.flora.adapters import make_bytes, pack

GOOD_WEIGHTS, GOOD_CONFIG = make_bytes()
_MAGICS = (b"PK\x03\x04", b"\x80\x02}q", b"\x1f\x8b", b"GGUF", b"{", b"", b"\x00" * 8)
_HUGE = (2**31, 2**32, 2**53, 2**63 - 1, 2**64, 10**40, -1, -(2**63))
_PATHS = (
    "../../etc/passwd",
    "/etc/passwd",
    "..\\..\\x",
    "a\x00b",
    "\ud800",
    "",
    "x" * 5000,
    "base_model.model.../../x.flora_A",
)


def numbers() -> st.SearchStrategy[Any]:
    """Sizes and offsets as they should not be."""
    return st.one_of(
        st.integers(-4, 4096),
        st.sampled_from(_HUGE),
        st.floats(allow_nan=True),
        st.booleans(),
        st.none(),
        st.text(max_size=3),
    )


def json_values() -> st.SearchStrategy[Any]:
    """Any JSON at all, NaN and infinity among it."""
    leaves = st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), numbers()
    )
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
        ),
        max_leaves=12,
    )


def names() -> st.SearchStrategy[str]:
    """Tensor names: right ones, paths, and any text."""
    right = json.loads(GOOD_WEIGHTS[8 : 8 + int.from_bytes(GOOD_WEIGHTS[:8], "little")])
    known = sorted(name for name in right if name != "__metadata__")
    return st.sampled_from(known) | st.sampled_from(_PATHS) | st.text(max_size=30)


def entries() -> st.SearchStrategy[Any]:
    """What the header says of one tensor."""
    entry = st.fixed_dictionaries(
        {},
        optional={
            "dtype": st.sampled_from(["F32", "F16", "BF16", "F64", "I8", "", "f32"]) | numbers(),
            "shape": st.lists(numbers(), max_size=4) | numbers(),
            "data_offsets": st.lists(numbers(), max_size=3) | numbers(),
            "extra": json_values(),
        },
    )
    return entry | json_values()


def headers() -> st.SearchStrategy[bytes]:
    """Header texts: wrong entries, repeated keys, deep nesting, any JSON."""
    members = st.lists(st.tuples(names() | st.just("__metadata__"), entries()), max_size=5)
    repeated = members.map(
        lambda pairs: (
            "{" + ",".join(f"{json.dumps(k)}:{json.dumps(v)}" for k, v in pairs) + "}"
        ).encode()
    )
    depth = st.integers(1, 60_000)
    nested = depth.map(lambda n: b'{"a":' + b"[" * n + b"]" * n + b"}")
    return st.one_of(repeated, json_values().map(lambda v: json.dumps(v).encode()), nested)


def weights() -> st.SearchStrategy[bytes]:
    """Whole files: cut off, changed in places, with wrong headers or lengths, of other formats."""
    cut = st.integers(0, len(GOOD_WEIGHTS)).map(lambda n: GOOD_WEIGHTS[:n])
    longer = st.binary(min_size=1, max_size=64).map(lambda tail: GOOD_WEIGHTS + tail)
    places = st.lists(
        st.tuples(st.integers(0, len(GOOD_WEIGHTS) - 1), st.integers(0, 255)), max_size=12
    )
    other = st.tuples(st.sampled_from(_MAGICS), st.binary(max_size=200)).map(b"".join)
    lengths = st.none() | st.integers(0, 2**64 - 1)
    made = st.builds(pack, headers(), st.binary(max_size=256), lengths)
    return st.one_of(made, made, cut, longer, places.map(_changed), other)


def configs() -> st.SearchStrategy[bytes]:
    """adapter_config.json: right, almost right, any JSON, no JSON."""
    right = json.loads(GOOD_CONFIG)
    almost = st.tuples(st.sampled_from(sorted(right)), json_values()).map(
        lambda change: json.dumps(right | {change[0]: change[1]}).encode()
    )
    return st.one_of(
        st.just(GOOD_CONFIG),
        almost,
        json_values().map(lambda value: json.dumps(value).encode()),
        st.binary(max_size=50),
    )


def _changed(places: list[tuple[int, int]]) -> bytes:
    changed = bytearray(GOOD_WEIGHTS)
    for at, value in places:
        changed[at] = value
    return bytes(changed)
