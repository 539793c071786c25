"""What part of an engine's sequences each active tenant has, and should have."""

from replicas.fair_limits import FairLimits
from replicas.service_order import Tenant


class TenantShares:
    """Sums over the active tenants, so that a share is known without looking at any other.

    A tenant is "late" while it has something waiting and has had more than a burst since it came.
    """

    def __init__(self, limits: FairLimits) -> None:
        self._limits = limits
        self.active_weight = 0.0
        self.num_running_seqs = 0
        self._late_weight = 0.0
        self._late_seqs = 0

    def join(self, tenant: Tenant, weight: float, *, was_active: bool) -> None:
        """A tenant is active from now on, with this weight."""
        before = tenant.weight if was_active else 0.0
        self.active_weight += weight - before
        if tenant.is_late:
            self._late_weight += weight - before
        tenant.weight = weight

    def part(self, tenant: Tenant) -> None:
        """A tenant is not active any more."""
        self.active_weight -= tenant.weight

    def run(self, tenant: Tenant, num_seqs: int) -> None:
        """A tenant runs that many sequences more."""
        self.num_running_seqs += num_seqs
        tenant.num_running_seqs += num_seqs
        if tenant.is_late:
            self._late_seqs += num_seqs

    def set_late(self, tenant: Tenant, is_late: bool) -> None:
        """A tenant has become late, or is it no longer."""
        if tenant.is_late != is_late:
            sign = 1 if is_late else -1
            tenant.is_late = is_late
            self._late_weight += sign * tenant.weight
            self._late_seqs += sign * tenant.num_running_seqs

    def num_held(self) -> float:
        """Sequences that stay free for active tenants that are not late."""
        if not self.active_weight:
            return 0.0
        share = 1.0 - self._late_weight / self.active_weight
        unused = share * self._limits.max_num_seqs - (self.num_running_seqs - self._late_seqs)
        return self._limits.held_share * max(0.0, unused)

    def check_integrity(self, tenants: list[Tenant]) -> None:
        """Raises AssertionError where the sums are not those of `tenants`."""
        active = sum(t.weight for t in tenants if t.is_active)
        late = [t for t in tenants if t.is_late]
        assert abs(self.active_weight - active) < 1e-6 * max(1.0, active)
        assert abs(self._late_weight - sum(t.weight for t in late)) < 1e-6 * max(1.0, active)
        assert self._late_seqs == sum(t.num_running_seqs for t in late)
        assert self.num_running_seqs == sum(t.num_running_seqs for t in tenants)
