"""Rendezvous hashing: where an adapter lives when nobody has it yet.

Every replica draws a weight for every adapter; the heaviest are the adapter's homes (Thaler and
Ravishankar, "Using name-based mappings to increase hit rates", 1998). A replica that comes takes
its fair share from all others and moves nothing between them, and one that goes leaves its share
to all.
"""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]
_ROUNDS = ((16, 0x85EBCA6B), (13, 0xC2B2AE35))


def word_of(replica_id: str) -> int:
    """What stands for a replica in the draw: 32 bits."""
    return int.from_bytes(blake2b(replica_id.encode(), digest_size=4).digest(), "little")


def weights(adapters: Sequence[int], replicas: Words) -> Words:
    """The draw: uint32 [len(adapters), len(replicas)], of adapters' 64-bit words.

    The mixing is that of MurmurHash3's last step; 32 bits, because a processor multiplies eight of
    those at a time. It is one to one: replicas of different words never draw alike.
    """
    folded = np.array([(a ^ a >> 32) & 0xFFFFFFFF for a in adapters], np.uint32)
    drawn = folded[:, None] ^ replicas[None, :]
    for shift, factor in _ROUNDS:
        drawn ^= drawn >> np.uint32(shift)
        drawn *= np.uint32(factor)
    drawn ^= drawn >> np.uint32(16)
    return drawn


def heaviest(drawn: Words, number: int) -> list[int]:
    """Places of the `number` heaviest of one adapter's weights, the heaviest first."""
    if number == 1:
        return [int(drawn.argmax())]
    number = min(number, len(drawn))
    top = np.argpartition(drawn, len(drawn) - number)[len(drawn) - number :]
    return [int(place) for place in top[np.argsort(drawn[top])[::-1]]]
