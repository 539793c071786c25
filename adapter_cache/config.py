"""Settings of the adapter cache. Reads no environment: the composition root builds this once."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RedisLimits:
    """What one process may ask of Redis, and how long it waits.

    `reply_timeout_s` bounds each reply, `max_retries` the repeats of a read that failed. A pool
    with all `max_connections` in use makes callers wait `reply_timeout_s`, then fails them.
    """

    max_connections: int = 16
    connect_timeout_s: float = 1.0
    reply_timeout_s: float = 2.0
    max_retries: int = 2

    def __post_init__(self) -> None:
        _require_positive(self, "max_connections", "connect_timeout_s", "reply_timeout_s")
        if self.max_retries < 0:
            raise ValueError(f"max_retries must not be negative, not {self.max_retries}")


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """The adapter cache's section of the settings.

    An empty `redis_url` asks for the embedded Valkey, which keeps its files in `valkey_dir` and
    listens on `valkey_port` (0: any free port). `node_cache_dir` should be on tmpfs; processes of
    one node share it, and share its budget of `node_cache_bytes`. `fetch_timeout_s` bounds one
    fetch from its start, the wait for one of `max_parallel_fetches` places included; beyond
    `max_pending_fetches` or `max_pending_bytes` waiting, a fetch is refused. A digest that nobody
    has is not asked for again for `negative_ttl_s`.

    `object_store_url` is any fsspec URL (file://, s3://, gs://) and holds the truth; empty asks for
    the folder `objects` beside `valkey_dir`. Redis keeps a blob for `blob_ttl_s` since its last
    fetch, less when it runs short; the embedded server's memory is `valkey_max_bytes`.
    `keep_versions` versions of a name stay, the current and pinned ones in any case. What a broken
    publish left behind may be collected after `orphan_grace_s`.

    A new replica warms the `warm_adapters` most used adapters, for `warm_timeout_s` at most; what
    is used, replicas report every `usage_report_s`. `follow_changes` lets replicas act on news of
    moved versions.

    While the registry does not answer, a name that it resolved at most `stale_max_s` ago keeps its
    version; 0 turns that off.
    """

    redis_url: str = field(default="", repr=False)
    key_prefix: str = "flora"
    redis: RedisLimits = field(default_factory=RedisLimits)
    valkey_dir: Path = Path("data/valkey")
    valkey_port: int = 0
    node_cache_dir: Path = Path("/dev/shm/flora-serve")
    node_cache_bytes: int = 2 * 1024**3
    fetch_timeout_s: float = 10.0
    max_parallel_fetches: int = 8
    max_pending_fetches: int = 1024
    max_pending_bytes: int = 1024**3
    negative_ttl_s: float = 2.0
    object_store_url: str = field(default="", repr=False)
    valkey_max_bytes: int = 4 * 1024**3
    blob_ttl_s: float = 7 * 86400.0
    keep_versions: int = 10
    orphan_grace_s: float = 3600.0
    warm_adapters: int = 64
    warm_timeout_s: float = 10.0
    usage_report_s: float = 10.0
    follow_changes: bool = True
    stale_max_s: float = 300.0

    def __post_init__(self) -> None:
        _require_positive(self, "node_cache_bytes", "fetch_timeout_s", "max_parallel_fetches")
        _require_positive(self, "max_pending_fetches", "max_pending_bytes", "valkey_max_bytes")
        _require_positive(self, "blob_ttl_s", "keep_versions", "orphan_grace_s", "usage_report_s")
        _require_positive(self, "warm_timeout_s")
        if min(self.negative_ttl_s, self.warm_adapters, self.stale_max_s) < 0:
            raise ValueError("negative_ttl_s, warm_adapters, stale_max_s must not be negative")
        if not 0 <= self.valkey_port < 65536:
            raise ValueError(f"valkey_port must be a TCP port, not {self.valkey_port}")
        # Braces in the prefix would move the hash tag of every key.
        if not self.key_prefix or set(self.key_prefix) & set("{}"):
            raise ValueError(f"key_prefix must be non-empty, without braces: {self.key_prefix!r}")


def _require_positive(config: object, *names: str) -> None:
    for name in names:
        if not getattr(config, name) > 0:
            raise ValueError(f"{name} must be positive, not {getattr(config, name)}")
