"""Names of models: what is written can be read, and nothing else can."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.model_name import ModelName, parse_model_name, unknown_model
from contracts.access import LOCAL_CALLER
from contracts.adapters import ADAPTER_NAME, DEFAULT_TENANT, TENANT_NAME, AdapterRef, TenantId
from contracts.errors import UnknownModel

ADAPTERS = st.from_regex(ADAPTER_NAME, fullmatch=True)
BASES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)


OWNERS = st.from_regex(TENANT_NAME, fullmatch=True).map(TenantId)


@given(BASES, st.none() | ADAPTERS, st.none() | st.integers(1, 999_999_999), st.none() | OWNERS)
def test_a_written_name_reads_as_itself(
    base: str, adapter: str | None, version: int | None, owner: TenantId | None
) -> None:
    name = ModelName(base, adapter, version, owner) if adapter else ModelName(base)
    assert parse_model_name(str(name), base) == name


@given(st.text(max_size=40))
def test_any_text_is_a_name_or_unknown(text: str) -> None:
    try:
        name = parse_model_name(text, "base")
    except UnknownModel:
        return
    assert str(name) == text


@pytest.mark.parametrize(
    "text",
    ["", "bas", "base2", "base:", "base:@1", "base:a@", "base:a@0", "base:a@01", "base:a@-1",
     "base:a@1@2", "base:a/b/c", "base:/b", "base:a/", "base:../etc", "base: a", "base:a ", "BASE",
     "base@1", "base:a@٣",
     "base:" + "x" * 97, "base:a@1234567890"],
)  # fmt: skip
def test_malformed_names_are_unknown(text: str) -> None:
    with pytest.raises(UnknownModel):
        parse_model_name(text, "base")


def test_a_base_may_hold_the_separators() -> None:
    assert parse_model_name("org/m:7b@x:a@2", "org/m:7b@x") == ModelName("org/m:7b@x", "a", 2)


def test_the_store_is_asked_for_adapters_only() -> None:
    assert ModelName("b").ref(LOCAL_CALLER) is None
    assert ModelName("b", "a", 3).ref(LOCAL_CALLER) == AdapterRef(DEFAULT_TENANT, "a", 3)


def test_another_owner_is_asked_for_in_the_readers_name() -> None:
    name = parse_model_name("base:acme/a@2", "base")
    assert name.ref(LOCAL_CALLER) == AdapterRef(TenantId("acme"), "a", 2, DEFAULT_TENANT)
    own = parse_model_name(f"base:{DEFAULT_TENANT}/a", "base")
    assert own.ref(LOCAL_CALLER) == AdapterRef(DEFAULT_TENANT, "a")


def test_an_allow_list_hides_what_it_does_not_name() -> None:
    caller = replace(LOCAL_CALLER, adapters=frozenset({"a", "acme/b"}))
    assert parse_model_name("base:a@7", "base").ref(caller)
    assert parse_model_name("base:acme/b", "base").ref(caller)
    for hidden in ("base:b", "base:acme/a", "base:other/b"):
        with pytest.raises(UnknownModel):
            parse_model_name(hidden, "base").ref(caller)


def test_a_long_name_is_cut_in_the_message() -> None:
    assert len(str(unknown_model("x" * 100_000))) < 300
