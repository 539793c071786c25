"""How far a batch of every kind of adapter is from transformers with W' materialised."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from contracts.adapters import BASE, AdapterKey
from flora.codec import CompiledAdapter
from flora.layout import AdapterLayout
from tests.replicas.engine.parts import Answer, Oracle, Stack, make_config, make_keys, running

NUM_SEQUENCES = 32
NUM_TOKENS = 16
FLOAT32_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Distance:
    """How far log-probabilities lie from the oracle's: with adapters, and without beside them."""

    adapters: torch.Tensor
    base: torch.Tensor
    num_not_best: int

    def __str__(self) -> str:
        parts = [
            f"{name} worst {apart.max():.2e} mean {apart.mean():.2e}"
            for name, apart in (("adapters", self.adapters), ("base", self.base))
        ]
        return f"{', '.join(parts)}; {self.num_not_best} tokens not the oracle's best"


async def distance(
    model: Path,
    tmp_path: Path,
    vocab_size: int,
    scale: float,
    reference: Path | None = None,
    **changes: object,
) -> Distance:
    """One batch of 32 sequences on a real engine; the oracle runs `reference` (or `model`)."""
    async with running(make_config(model, **changes), tmp_path) as stack:
        batch = await ask_batch(stack, vocab_size, scale)
    return batch.distance(reference or model)


@dataclass(frozen=True)
class Batch:
    """Prompts that were asked together, a key each, and what an engine said to them."""

    layout: AdapterLayout
    adapters: dict[AdapterKey, CompiledAdapter]
    keys: list[AdapterKey]
    prompts: list[list[int]]
    answers: list[Answer]

    def distance(self, model: Path) -> Distance:
        """Needs the machine's cores: ask while no engine runs."""
        oracle = Oracle(model, self.layout)
        by_key: dict[AdapterKey, list[int]] = defaultdict(list)
        for i, key in enumerate(self.keys):
            by_key[key].append(i)
        found = {
            key: oracle.differences(
                self.adapters.get(key),
                [self.prompts[i] for i in places],
                [self.answers[i] for i in places],
            )
            for key, places in by_key.items()
        }
        result = Distance(
            torch.cat([apart for key, (apart, _) in found.items() if key != BASE]),
            found[BASE][0],
            sum(not_best for _, not_best in found.values()),
        )
        assert len(result.adapters) + len(result.base) == NUM_SEQUENCES * NUM_TOKENS
        print(result)
        return result


async def ask_batch(stack: Stack, vocab_size: int, scale: float) -> Batch:
    """32 sequences with every kind of adapter."""
    rng = np.random.default_rng(7)
    lengths = rng.integers(5, 40, NUM_SEQUENCES)
    prompts = [rng.integers(1, vocab_size, length).tolist() for length in lengths]
    keys, adapters = await make_keys(stack, NUM_SEQUENCES, scale)
    answers = await stack.ask(prompts, keys, NUM_TOKENS)
    return Batch(stack.layout, adapters, keys, prompts, answers)


def assert_exact(found: Distance) -> None:
    assert max(found.adapters.max(), found.base.max()) < FLOAT32_TOLERANCE
    assert found.num_not_best == 0


def assert_no_worse_than_base(found: Distance) -> None:
    """In bfloat16 the base model itself is off from float32: every product and norm rounds
    to 8 bits. An adapter adds two roundings to a dozen a layer, so it may be somewhat farther, not
    of another order; and a wrong adapter is off by whole units.
    """
    assert found.adapters.mean() < 2 * found.base.mean() + 0.01
    assert found.adapters.max() < 3 * found.base.max() + 0.1
