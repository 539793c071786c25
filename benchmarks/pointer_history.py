"""What a name's pointer may have said at a time, from outside: pure book-keeping for races."""

from collections import defaultdict
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Move:
    """One change of one name, somewhere between its call and its return; "" is "no adapter"."""

    began_s: float
    ended_s: float
    digest: str


class PointerHistory:
    """All moves of all names, one after the other for each name; at first no name exists.

    A move takes effect at one moment that the caller does not know, so between `began_s` and
    `ended_s` both the digest before and the digest after are right.
    """

    def __init__(self) -> None:
        self._moves: dict[str, list[Move]] = defaultdict(list)

    def moved(self, name: str, began_s: float, ended_s: float, digest: str) -> None:
        """Record a move that has returned; a move that failed in an unknown state is no move."""
        self._moves[name].append(Move(began_s, ended_s, digest))

    def was_current(self, name: str, digest: str, from_s: float, to_s: float) -> bool:
        """Whether `digest` may have been current at some moment of [from_s, to_s]."""
        moves = [Move(float("-inf"), float("-inf"), ""), *self._moves[name]]
        ends = [*(move.ended_s for move in moves[1:]), float("inf")]
        return any(
            move.digest == digest and move.began_s <= to_s and until_s >= from_s
            for move, until_s in zip(moves, ends, strict=True)
        )

    @property
    def num_moves(self) -> int:
        return sum(map(len, self._moves.values()))
