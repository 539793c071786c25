"""Who calls, and what they may do. Knows nothing of keys' secrets or of how they are stored."""

from dataclasses import dataclass
from enum import StrEnum

from contracts.adapters import DEFAULT_TENANT, TenantId


class Scope(StrEnum):
    """What a key allows. `ADMIN` allows everything else, too."""

    GENERATE = "generate"
    ADAPTERS_READ = "adapters:read"
    ADAPTERS_WRITE = "adapters:write"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Quota:
    """What one key may use; None is without limit.

    `tokens_per_min` counts prompt tokens and tokens that may be generated; `max_streams` counts
    choices (`n` of a request) that run at a time.
    """

    requests_per_min: int | None = None
    tokens_per_min: int | None = None
    max_streams: int | None = None

    @property
    def is_unlimited(self) -> bool:
        return self == UNLIMITED


UNLIMITED = Quota()


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller. `key_id` names the key in logs and counts; it is no secret.

    `adapters` is an allow-list of names as the `model` field spells them behind the colon
    ("name" or "owner/name", without a version); None allows all. `weight` is the tenant's share
    where tenants compete.
    """

    key_id: str
    tenant: TenantId
    scopes: frozenset[Scope]
    adapters: frozenset[str] | None = None
    quota: Quota = UNLIMITED
    weight: float = 1.0

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def may_use(self, adapter: str) -> bool:
        """Whether the allow-list has `adapter`, spelled as the caller spells it."""
        return self.adapters is None or adapter in self.adapters


LOCAL_CALLER = Caller("local", DEFAULT_TENANT, frozenset({Scope.ADMIN}))
"""Everybody, on a server without keys; such a server listens on loopback alone."""
