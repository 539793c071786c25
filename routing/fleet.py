"""What one door knows of the replicas: who is there, how much each has to do, what it holds.

A replica's load is what this door has sent there and not had back, known exactly, and what other
doors have sent, known from its last report.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from contracts.replica import ReplicaReport
from routing.config import RoutingConfig
from routing.rendezvous import Words, word_of
from routing.residency import Residency, Slot

Floats = NDArray[np.float64]
_FIRST_CAPACITY = 16
_REPORT_DELAY_S = 2.0


class Fleet:
    """Tables with a row, the slot, for each replica; a slot is used again once its replica is gone.

    Loads are in tokens. Times are seconds of one monotonic clock.
    """

    def __init__(self, config: RoutingConfig) -> None:
        self._config = config
        self._slots: dict[str, Slot] = {}
        self._ids: list[str] = []
        self._free: list[Slot] = []
        self._numbers: list[int] = []
        self.residency = Residency(config.learned_s)
        self.words: Words = np.zeros(0, np.uint32)
        self._is_member = np.zeros(0, bool)
        self._own: Floats = np.zeros(0)
        self._others: Floats = np.zeros(0)
        self._reported_at_s: Floats = np.zeros(0)
        self._told_at_s: Floats = np.zeros(0)
        self._suspect_until_s: Floats = np.zeros(0)

    def __repr__(self) -> str:
        return f"<Fleet {len(self._slots)} replicas>"

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, replica_id: str) -> bool:
        return replica_id in self._slots

    @property
    def replica_ids(self) -> Iterable[str]:
        """All members."""
        return self._slots.keys()

    def id_of(self, slot: Slot) -> str:
        """The replica of a slot."""
        return self._ids[slot]

    def slot_of(self, replica_id: str) -> Slot | None:
        """The slot of a replica, None where it is gone."""
        return self._slots.get(replica_id)

    def update(self, reports: Mapping[str, ReplicaReport | None], now_s: float) -> None:
        """The members by id, each with its last report if it has made one."""
        for replica_id in self._slots.keys() - reports.keys():
            self.remove(replica_id)
        for replica_id, report in reports.items():
            slot = self._slots.get(replica_id)
            if slot is None:
                slot = self._add(replica_id)
            if report is not None and report.number != self._numbers[slot]:
                self._take(slot, report, now_s)

    def remove(self, replica_id: str) -> None:
        """A replica is gone; one that is not there is ignored."""
        slot = self._slots.pop(replica_id, None)
        if slot is not None:
            self._is_member[slot] = False
            self.residency.forget(slot)
            self._free.append(slot)

    def suspect(self, replica_id: str, now_s: float, for_s: float | None = None) -> None:
        """A replica has lost or held up requests: it gets none for a while, if there are others.

        For `for_s`, None for the settings' time; never for less long than before.
        """
        slot = self._slots.get(replica_id)
        if slot is not None:
            until_s = now_s + (self._config.suspect_s if for_s is None else for_s)
            self._suspect_until_s[slot] = max(self._suspect_until_s[slot], until_s)

    def trust(self, replica_id: str) -> None:
        """A suspected replica is well."""
        slot = self._slots.get(replica_id)
        if slot is not None:
            self._suspect_until_s[slot] = -np.inf

    def sent(self, replica_id: str, tokens: float, adapter: int, now_s: float) -> None:
        """Work of so many tokens is on its way there; `adapter` 0 is the base model."""
        slot = self._slots.get(replica_id)
        if slot is not None:
            self._own[slot] += tokens
            if adapter:
                self.residency.learn(slot, adapter, now_s)

    def told(self, replica_id: str, load_tokens: int, now_s: float) -> None:
        """What a replica has to do for all doors, as it says beside its tokens."""
        slot = self._slots.get(replica_id)
        if slot is not None:
            self._others[slot] = max(0.0, load_tokens - self._own[slot])
            self._reported_at_s[slot] = self._told_at_s[slot] = now_s

    def done(self, replica_id: str, tokens: float) -> None:
        """So much of what was sent there is done, or will not be."""
        slot = self._slots.get(replica_id)
        if slot is not None:
            self._own[slot] = max(0.0, self._own[slot] - tokens)

    def hear(self, replica_id: str, load_tokens: float, now_s: float) -> None:
        """A replica has said beside an answer's tokens what it has to do for all doors by now."""
        slot = self._slots.get(replica_id)
        if slot is not None:
            self._others[slot] = max(0.0, load_tokens - self._own[slot])
            self._reported_at_s[slot] = now_s

    def reported_at_s(self) -> dict[str, float]:
        """When each member was last heard of."""
        return {r: float(self._reported_at_s[slot]) for r, slot in self._slots.items()}

    def loads(self, now_s: float) -> Floats:
        """Tokens to do by slot; infinite where nothing is to be sent."""
        is_fresh = now_s - self._reported_at_s <= self._config.report_max_age_s
        known = self._others[is_fresh & self._is_member]
        # A replica that nobody has heard of for long is taken for one like the others.
        others = np.where(is_fresh, self._others, known.mean() if known.size else 0.0)
        is_trusted = self._is_member & (self._suspect_until_s <= now_s)
        if not is_trusted.any():
            is_trusted = self._is_member
        return np.where(is_trusted, self._own + others, np.inf)

    def _add(self, replica_id: str) -> Slot:
        if not self._free:
            self._grow()
        slot = self._slots[replica_id] = self._free.pop()
        self._ids[slot] = replica_id
        self._numbers[slot] = -1
        self.words[slot] = word_of(replica_id)
        self._is_member[slot] = True
        self._own[slot] = self._others[slot] = 0.0
        self._reported_at_s[slot] = self._told_at_s[slot] = -np.inf
        self._suspect_until_s[slot] = -np.inf
        return slot

    def _take(self, slot: Slot, report: ReplicaReport, now_s: float) -> None:
        self._numbers[slot] = report.number
        if now_s - self._told_at_s[slot] > _REPORT_DELAY_S:
            # Otherwise this is older than what it has told since.
            self._others[slot] = max(0.0, report.load_tokens - self._own[slot])
        self._reported_at_s[slot] = now_s
        self.residency.report(slot, report.residents, now_s)

    def _grow(self) -> None:
        old = len(self._ids)
        new = max(_FIRST_CAPACITY, old)
        self._ids += [""] * new
        self._numbers += [-1] * new
        self._free += range(old + new - 1, old - 1, -1)
        self.words = np.concatenate([self.words, np.zeros(new, np.uint32)])
        self._is_member = np.concatenate([self._is_member, np.zeros(new, bool)])
        for name in ("_own", "_others", "_reported_at_s", "_told_at_s", "_suspect_until_s"):
            setattr(self, name, np.concatenate([getattr(self, name), np.zeros(new)]))
