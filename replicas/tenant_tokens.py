"""Tokens by tenant with a bounded number of labels. Names and counts alone."""

OTHER = "_other"
"""Stands for all tenants without a label; no tenant can be called so."""


class TenantTokens:
    """The tenants with the most tokens have a label of their own, at most `max_labels` of them.

    The rest is counted as OTHER. Counts never fall, as a counter must not: who overtakes the
    least of the labelled ones gets its label and begins at 0, and the other's count goes to
    OTHER. At most `max_candidates` without a label are followed.
    """

    def __init__(self, max_labels: int = 20, max_candidates: int = 200) -> None:
        self._max_labels = max_labels
        self._max_candidates = max_candidates
        self._shown: dict[str, int] = {}
        # Tokens since a tenant was first followed; they decide about labels.
        self._labelled: dict[str, int] = {}
        self._candidates: dict[str, int] = {}
        self._other = 0

    def add(self, tenant: str, num_tokens: int) -> None:
        """A tenant was given tokens."""
        if tenant not in self._shown and len(self._shown) < self._max_labels:
            self._shown[tenant] = self._labelled[tenant] = 0
        if tenant in self._shown:
            self._shown[tenant] += num_tokens
            self._labelled[tenant] += num_tokens
        else:
            self._other += num_tokens
            self._follow(tenant, num_tokens)

    def counts(self) -> dict[str, int]:
        """Tokens by label."""
        return {**self._shown, OTHER: self._other}

    def _follow(self, tenant: str, num_tokens: int) -> None:
        candidates, labelled = self._candidates, self._labelled
        candidates[tenant] = candidates.pop(tenant, 0) + num_tokens  # most lately served last
        least = min(labelled, key=labelled.__getitem__)
        if candidates[tenant] > labelled[least]:
            labelled[tenant] = candidates.pop(tenant)
            candidates[least] = labelled.pop(least)
            self._shown[tenant] = 0
            self._other += self._shown.pop(least)
        if len(candidates) > self._max_candidates:
            del candidates[next(iter(candidates))]
