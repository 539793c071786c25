"""Which version of each adapter name was served here last. Bounded; no clock, no bytes."""

from collections import Counter, OrderedDict
from collections.abc import Sequence

from contracts.adapters import AdapterChange, AdapterKey, AdapterRef, Digest, TenantId


class ServedNames:
    """The newest version seen of each of the `max_names` names that were asked for last."""

    def __init__(self, max_names: int) -> None:
        self._max_names = max_names
        self._keys: OrderedDict[tuple[TenantId, str], AdapterKey] = OrderedDict()
        self._digests: Counter[Digest] = Counter()

    def note(self, key: AdapterKey) -> None:
        """`key` is asked for. A version older than the newest seen does not take its place."""
        name = key.tenant, key.name
        known = self._forget(name)
        self._set(key if known is None or key.version > known.version else known)
        if len(self._keys) > self._max_names:
            self._forget(next(iter(self._keys)))

    def apply(self, change: AdapterChange) -> None:
        """Follow a change of a name that was served here. Late news changes nothing."""
        name = change.tenant, change.name
        known = self._keys.get(name)
        if known is None:
            return
        if change.new is None:
            if known.digest == change.old:
                self._forget(name)
        elif change.new.version > known.version:
            # Not asked for: the name keeps its place among the others.
            self._keys[name] = change.new
            self._digests[change.new.digest] += 1
            self._uncount(known.digest)

    def current(self, tenant: TenantId, name: str) -> AdapterKey | None:
        """The version of a name that is current as far as is known here."""
        return self._keys.get((tenant, name))

    def serves(self, digest: Digest) -> bool:
        """Whether some name's current version has these bytes."""
        return digest in self._digests

    def refs(self) -> list[AdapterRef]:
        """All names, in an order that holds until the next change."""
        return [AdapterRef(tenant, name) for tenant, name in self._keys]

    def differences(
        self, refs: Sequence[AdapterRef], keys: Sequence[AdapterKey | None]
    ) -> list[AdapterChange]:
        """What must have happened, if `refs` resolve to `keys` now."""
        found = []
        for ref, key in zip(refs, keys, strict=True):
            known = self._keys.get((ref.tenant, ref.name))
            if known is not None and known != key:
                found.append(AdapterChange(ref.tenant, ref.name, known.digest, key))
        return found

    def went_back(self, refs: Sequence[AdapterRef], keys: Sequence[AdapterKey | None]) -> bool:
        """Whether a name is gone or older now, which an incomplete registry would say, too."""
        for ref, key in zip(refs, keys, strict=True):
            known = self._keys.get((ref.tenant, ref.name))
            if known is not None and (key is None or key.version < known.version):
                return True
        return False

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"<ServedNames {len(self)} names>"

    def _set(self, key: AdapterKey) -> None:
        self._keys[key.tenant, key.name] = key
        self._digests[key.digest] += 1

    def _forget(self, name: tuple[TenantId, str]) -> AdapterKey | None:
        known = self._keys.pop(name, None)
        if known is not None:
            self._uncount(known.digest)
        return known

    def _uncount(self, digest: Digest) -> None:
        self._digests[digest] -= 1
        if not self._digests[digest]:
            del self._digests[digest]
