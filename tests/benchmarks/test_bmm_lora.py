"""The paper's baseline against a loop over tokens."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.bmm_lora import Factors, add_bmm_lora


def slow(y: torch.Tensor, x: torch.Tensor, factors: Factors, slots: list[int]) -> torch.Tensor:
    """W' of every token by itself."""
    rows = []
    for token, slot in enumerate(slots):
        parts = [b[slot, 0] @ (a[slot, 0] @ x[token]) for a, b in factors]
        rows.append(y[token] + torch.cat(parts))
    return torch.stack(rows)


@given(
    slots=st.lists(st.integers(0, 3), min_size=1, max_size=9),
    rank=st.sampled_from([1, 2, 16]),
    is_transposed=st.booleans(),
    seed=st.integers(0, 99),
)
def test_every_token_has_its_own_adapter(
    slots: list[int], rank: int, is_transposed: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    factors = []
    for n_out in (5, 3):
        a, b = draw(4, 1, rank, 7), draw(4, 1, n_out, rank)
        if is_transposed:  # as LoraSlab stores it on a CPU
            b = b.transpose(2, 3).contiguous().transpose(2, 3)
        a[0], b[0] = 0, 0
        factors.append((a, b))
    x, y = draw(len(slots), 7), draw(len(slots), 8)
    expected = slow(y, x, factors, slots)
    untouched = y.clone()
    add_bmm_lora(y, x, factors, torch.tensor(slots))
    torch.testing.assert_close(y, expected)
    for token, slot in enumerate(slots):
        assert slot or torch.equal(y[token], untouched[token])
