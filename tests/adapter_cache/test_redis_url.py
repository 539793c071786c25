import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_cache.redis_url import parse_redis_url

ACCOUNT = {"username": "ada", "password": "p@ss"}


@pytest.mark.parametrize(
    ("url", "hosts", "options"),
    [
        ("redis+cluster://a:1,b:2", (("a", 1), ("b", 2)), {"db": 0}),
        ("redis+cluster://a/0", (("a", 6379),), {"db": 0}),
        ("redis+cluster://[::1]:7000", (("::1", 7000),), {"db": 0}),
        ("redis+cluster://ada:p%40ss@a:1,b:2", (("a", 1), ("b", 2)), {"db": 0, **ACCOUNT}),
        (
            "rediss+cluster://a:1?ssl_ca_certs=/ca.pem",
            (("a", 1),),
            {"db": 0, "ssl": True, "ssl_ca_certs": "/ca.pem"},
        ),
    ],
)
def test_a_cluster_is_named_by_any_of_its_nodes(
    url: str, hosts: tuple[tuple[str, int], ...], options: dict[str, object]
) -> None:
    parsed = parse_redis_url(url)
    assert (parsed.kind, parsed.hosts, dict(parsed.options)) == ("cluster", hosts, options)


def test_sentinels_have_a_master_and_may_have_an_account_of_their_own() -> None:
    parsed = parse_redis_url(
        "rediss+sentinel://ada:p%40ss@a,b:7/main/3?ssl_ca_certs=/ca&sentinel_password=other"
    )
    assert (parsed.kind, parsed.hosts, parsed.master) == (
        "sentinel",
        (("a", 26379), ("b", 7)),
        "main",
    )
    tls = {"ssl": True, "ssl_ca_certs": "/ca"}
    assert dict(parsed.options) == {"db": 3, **ACCOUNT, **tls}
    assert dict(parsed.sentinel_options) == {"password": "other", **tls}
    assert parse_redis_url("redis+sentinel://a/main").options == {"db": 0}


def test_one_server_is_as_the_client_has_it() -> None:
    parsed = parse_redis_url("redis://ada:p%40ss@h:1/2")
    assert (parsed.kind, dict(parsed.options)) == (
        "single",
        {"host": "h", "port": 1, "db": 2, **ACCOUNT},
    )
    assert parse_redis_url("unix:///run/redis.sock?db=3").options["path"] == "/run/redis.sock"


@pytest.mark.parametrize(
    "url",
    [
        "http://:hunter2@host",
        "redis://:hunter2@host:hunter2/0",
        "redis+cluster://",
        "redis+cluster://:hunter2@a:1,",
        "redis+cluster://:hunter2@a:1/3",
        "redis+cluster://:hunter2@a:hunter2",
        "redis+sentinel://:hunter2@a",
        "redis+sentinel://:hunter2@a/main/x",
        "redis+ring://:hunter2@a",
        "unix+cluster://:hunter2@/run/x",
        "redis+sentinel://:hunter2@[::1/main",
    ],
)
def test_a_malformed_url_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(ValueError, match="redis_url") as caught:
        parse_redis_url(url)
    assert "hunter2" not in str(caught.value)


@given(st.sampled_from(["", "redis://", "redis+cluster://", "redis+sentinel://"]), st.text())
def test_any_text_is_a_url_or_refused_in_the_same_words(start: str, rest: str) -> None:
    try:
        said = repr(parse_redis_url(start + rest).kind)
    except ValueError as error:
        said = str(error)
    assert said.startswith(("redis_url is not", "'single'", "'cluster'", "'sentinel'"))
