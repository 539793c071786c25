"""The stores of the settings: the same URL in every process, and nothing secret in a refusal."""

from pathlib import Path

import pytest

from adapter_cache.config import CacheConfig
from app.stores import open_stores, with_object_store
from contracts.errors import InvalidRequest


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("", "file://{here}/data/objects"),
        ("file://adapters", "file://{here}/adapters"),
        ("file:///srv/adapters/", "file:///srv/adapters"),
        ("s3://bucket/prefix", "s3://bucket/prefix"),
    ],
)
def test_a_path_means_the_same_in_every_folder(
    given: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = with_object_store(CacheConfig(object_store_url=given))
    assert made.object_store_url == url.format(here=tmp_path.resolve())
    assert with_object_store(made) == made


@pytest.mark.parametrize(
    ("redis_url", "object_store_url"),
    [("http://:hunter2@h", "file:///x"), ("redis://h", "nonsense://:hunter2@h/x")],
)
def test_a_malformed_url_is_refused_without_being_shown(
    redis_url: str, object_store_url: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        open_stores(CacheConfig(redis_url=redis_url, object_store_url=object_store_url))
    assert "hunter2" not in str(refused.value)
    assert refused.value.param == "cache"


async def test_stores_open_without_a_server(tmp_path: Path) -> None:
    cache = CacheConfig(redis_url="redis://127.0.0.1:1/0", object_store_url=f"file://{tmp_path}")
    stores = open_stores(cache)
    assert (stores.hot.name, stores.objects.name) == ("redis", "store")
    await stores.close()
