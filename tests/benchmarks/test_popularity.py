from pathlib import Path

import numpy as np
import pytest

from adapter_cache.node_cache import NodeCache
from benchmarks.popularity import (
    POLICIES,
    NodePolicy,
    digest_of,
    hit_rate,
    settings_of,
    show,
    verdict,
)
from contracts.adapters import Digest
from tests.adapter_cache.adapters import digest_of as digest_of_blob


def replay_with_files(cache: NodeCache, key: int) -> bool:
    """What a replica does for one request."""
    blob = str(key).encode().ljust(4096)
    digest = Digest(digest_of_blob(blob))
    is_hit = cache.pin(digest) is not None
    if not is_hit:
        cache.put(digest, blob)
        cache.pin(digest)
    cache.unpin(digest)
    return is_hit


def test_the_replayed_policy_is_the_node_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "benchmarks.popularity.digest_of", lambda key: digest_of_blob(str(key).encode().ljust(4096))
    )
    trace = np.random.default_rng(0).zipf(1.2, 3_000).tolist()
    cache, policy = NodeCache(tmp_path, 100 * 4096), NodePolicy(100)
    for key in trace:
        assert policy.use(key) is replay_with_files(cache, key)
    digests = [digest_of_blob(str(key).encode().ljust(4096)) for key in policy.keys]
    assert digests == [resident.digest for resident in cache.residents()]


def test_the_first_quarter_is_not_counted() -> None:
    assert hit_rate(NodePolicy(10), [1, 2, 3, 4] * 4) == 1.0
    assert hit_rate(NodePolicy(10), [*range(8)]) == 0.0
    assert len(digest_of(7)) == 64


def test_the_verdict_ranks_and_tells_where_it_falls_short(
    capsys: pytest.CaptureFixture[str],
) -> None:
    metrics: dict[str, float] = {}
    for setting, node in (("zipf_1pct", 0.6), ("drift_1pct", 0.4)):
        metrics |= {f"{setting}_{title}_hit_rate": 0.45 for title in (*POLICIES, "belady")}
        metrics |= {f"{setting}_node_hit_rate": node, f"{setting}_belady_hit_rate": 0.7}
    assert settings_of(metrics) == ["zipf_1pct", "drift_1pct"]
    assert verdict(metrics).startswith("mean hit rate: belady 0.700, node 0.500, lru 0.450,")
    assert verdict(metrics).endswith("; below LRU in drift_1pct")
    show(metrics)
    assert "zipf_1pct" in capsys.readouterr().out
