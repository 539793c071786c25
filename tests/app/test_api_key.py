"""The record of a key: its codec, what opens it, and what nobody could mean."""

import secrets
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api_key import (
    KEY_ID_BYTES,
    MAX_SECRETS,
    SECRET_BYTES,
    ApiKey,
    SecretHash,
    check_key,
    decode_key,
    encode_key,
    hash_secret,
    key_text,
    parse_key_text,
)
from contracts.access import Quota, Scope
from contracts.adapters import ADAPTER_NAME, TENANT_NAME, TenantId
from contracts.errors import AdapterCorrupt, InvalidRequest
from tests.app.keys import DRAFT

times = st.floats(0, 4e9)
limits = st.none() | st.integers(1, 2**40)
names = st.from_regex(ADAPTER_NAME, fullmatch=True)
tenants = st.from_regex(TENANT_NAME, fullmatch=True)
keys = st.builds(
    ApiKey,
    key_id=st.text("0123456789abcdef", min_size=16, max_size=16),
    tenant=tenants.map(TenantId),
    scopes=st.frozensets(st.sampled_from(Scope), min_size=1),
    secrets=st.lists(
        st.builds(SecretHash, st.binary().map(bytes.hex).map(hash_secret), st.none() | times),
        min_size=1,
        max_size=MAX_SECRETS,
    ).map(tuple),
    created_at_s=times,
    expires_at_s=st.none() | times,
    adapters=st.none() | st.frozensets(names | st.tuples(tenants, names).map("/".join), max_size=4),
    quota=st.builds(Quota, limits, limits, limits),
    weight=st.floats(1e-6, 1e6),
    label=st.text("abc äß漢", max_size=20),
    generation=st.integers(1, 2**30),
    is_revoked=st.booleans(),
)


@given(keys)
def test_a_record_gives_back_its_key(key: ApiKey) -> None:
    check_key(key)
    assert decode_key(key.key_id, encode_key(key), is_revoked=key.is_revoked) == key


@given(keys, st.data())
def test_a_damaged_record_opens_nothing(key: ApiKey, data: st.DataObject) -> None:
    text = encode_key(key)
    cut = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(AdapterCorrupt, match=key.key_id):
        decode_key(key.key_id, text[:cut], is_revoked=False)


@pytest.mark.parametrize(
    ("found", "put"),
    [
        (b'"generate"', b'"everything"'),
        (b'"scopes": ["generate"]', b'"scopes": []'),
        (b'"tenant": "acme"', b'"tenant": "../x"'),
        (b'"weight": 1.0', b'"weight": NaN'),
        (b'"quota": [null', b'"quota": [0'),
        (b'"generation": 1', b'"generation": "x"'),
        (b'"secrets": []', b'"secrets": [["ab"]]'),
    ],
)
def test_a_record_that_says_what_no_key_can_is_damaged(found: bytes, put: bytes) -> None:
    text = encode_key(replace(DRAFT, key_id="a" * 16))
    assert found in text
    with pytest.raises(AdapterCorrupt):
        decode_key("a" * 16, text.replace(found, put), is_revoked=False)


def test_another_keys_record_is_damage() -> None:
    with pytest.raises(AdapterCorrupt):
        decode_key("b" * 16, encode_key(replace(DRAFT, key_id="a" * 16)), is_revoked=False)


def test_a_key_is_read_as_it_is_given_out() -> None:
    for _ in range(100):
        key_id, secret = secrets.token_hex(KEY_ID_BYTES), secrets.token_urlsafe(SECRET_BYTES)
        assert parse_key_text(key_text(key_id, secret)) == (key_id, secret)


@given(st.text() | st.from_regex(r"flora-[0-9a-f]{15,17}-[A-Za-z0-9_-]{42,44}", fullmatch=True))
def test_what_is_read_is_what_was_given_out(text: str) -> None:
    parsed = parse_key_text(text)
    assert parsed is None or key_text(*parsed) == text


@given(keys, times)
def test_a_key_opens_by_its_secrets_in_their_time(key: ApiKey, now_s: float) -> None:
    newest, old = SecretHash(hash_secret("new")), SecretHash(hash_secret("old"), 100.0)
    key = replace(key, secrets=(old, newest))
    usable = not key.is_revoked and (key.expires_at_s is None or now_s < key.expires_at_s)
    assert key.is_usable(now_s) is usable
    assert key.is_opened_by("new", now_s) is usable
    assert key.is_opened_by("old", now_s) is (usable and now_s < 100.0)
    assert not key.is_opened_by("other", now_s)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 300)), min_size=1, max_size=8))
def test_rotation_keeps_what_is_in_its_time_of_grace(turns: list[tuple[float, float]]) -> None:
    """Against the plain rule: a secret opens until the earliest end that it was ever given."""
    key = replace(DRAFT, key_id="a" * 16, secrets=(SecretHash(hash_secret("0")),))
    now_s, ends_s = 0.0, {"0": float("inf")}
    for number, (passed_s, grace_s) in enumerate(turns, 1):
        now_s += passed_s
        key = key.rotated(str(number), now_s, grace_s)
        ends_s = {secret: min(end_s, now_s + grace_s) for secret, end_s in ends_s.items()}
        ends_s[str(number)] = float("inf")
        assert len(key.secrets) <= MAX_SECRETS
        assert key.generation == number + 1
        opening = [secret for secret, end_s in ends_s.items() if now_s < end_s]
        for secret in ends_s:
            assert key.is_opened_by(secret, now_s) is (secret in opening[-MAX_SECRETS:])


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"tenant": TenantId("*")}, "tenant"),
        ({"tenant": TenantId("")}, "tenant"),
        ({"scopes": frozenset()}, "scopes"),
        ({"weight": 0.0}, "weight"),
        ({"weight": float("inf")}, "weight"),
        ({"label": "x" * 201}, "label"),
        ({"label": "a\nb"}, "label"),
        ({"adapters": frozenset({"a b"})}, "adapters"),
        ({"adapters": frozenset({"a/b/c"})}, "adapters"),
        ({"adapters": frozenset({"/a"})}, "adapters"),
        ({"adapters": frozenset(map(str, range(1001)))}, "adapters"),
        ({"expires_at_s": float("nan")}, "expires"),
        ({"quota": Quota(requests_per_min=0)}, "requests_per_min"),
        ({"quota": Quota(tokens_per_min=-1)}, "tokens_per_min"),
        ({"quota": Quota(max_streams=0)}, "max_streams"),
    ],
)
def test_a_key_that_nobody_could_mean_is_refused(changes: dict[str, object], field: str) -> None:
    check_key(DRAFT)
    with pytest.raises(InvalidRequest) as raised:
        check_key(replace(DRAFT, **changes))  # type: ignore[arg-type]
    assert raised.value.param == field


def test_the_caller_is_what_the_record_says() -> None:
    key = replace(DRAFT, key_id="a" * 16, adapters=frozenset({"x"}), weight=2.0, quota=Quota(1))
    caller = key.caller()
    assert (caller.key_id, caller.tenant, caller.scopes) == ("a" * 16, "acme", DRAFT.scopes)
    assert (caller.adapters, caller.weight, caller.quota) == (frozenset({"x"}), 2.0, Quota(1))
