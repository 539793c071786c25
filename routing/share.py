"""Which adapters are a new replica's own, before a door has sent it any."""

from collections.abc import Iterable, Sequence

import numpy as np

from contracts.adapters import AdapterKey
from contracts.replica import digest_word
from routing.rendezvous import weights, word_of


def own_share(keys: Sequence[AdapterKey], own_id: str, peer_ids: Iterable[str]) -> list[AdapterKey]:
    """Those of `keys` whose home is `own_id` once it is there beside its peers."""
    ids = [own_id, *(peer for peer in peer_ids if peer != own_id)]
    if not keys or len(ids) == 1:
        return list(keys)
    words = np.array([word_of(replica_id) for replica_id in ids], np.uint32)
    drawn = weights([digest_word(key.digest) for key in keys], words)
    return [key for key, home in zip(keys, drawn.argmax(axis=1), strict=True) if home == 0]
