from collections.abc import Callable

import pytest

from adapter_cache.config import CacheConfig, RedisLimits


def test_the_defaults_are_valid_and_hide_the_url() -> None:
    config = CacheConfig(redis_url="redis://:secret@example/0")
    assert "secret" not in repr(config)
    assert config.redis == RedisLimits()


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: RedisLimits(max_connections=0), "max_connections"),
        (lambda: RedisLimits(connect_timeout_s=0), "connect_timeout_s"),
        (lambda: RedisLimits(reply_timeout_s=float("nan")), "reply_timeout_s"),
        (lambda: RedisLimits(max_retries=-1), "max_retries"),
        (lambda: CacheConfig(node_cache_bytes=0), "node_cache_bytes"),
        (lambda: CacheConfig(fetch_timeout_s=-1), "fetch_timeout_s"),
        (lambda: CacheConfig(max_parallel_fetches=0), "max_parallel_fetches"),
        (lambda: CacheConfig(valkey_port=70_000), "valkey_port"),
        (lambda: CacheConfig(key_prefix="{x}"), "key_prefix"),
        (lambda: CacheConfig(key_prefix=""), "key_prefix"),
    ],
)
def test_a_value_out_of_range_names_itself(build: Callable[[], object], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        build()
