"""LoRA over a batch by `torch.bmm`: the baseline of Wen & Chaudhuri (ICLR 2024, appendix A.2)."""

from collections.abc import Sequence

import torch

Factors = Sequence[tuple[torch.Tensor, torch.Tensor]]
"""Of each member of a product: A [num_slots + 1, 1, rank, in], B [num_slots + 1, 1, out, rank]."""


def add_bmm_lora(y: torch.Tensor, x: torch.Tensor, factors: Factors, slots: torch.Tensor) -> None:
    """y_t += B_t (A_t x_t), in place, member beside member; slot 0 is zero.

    Both factors of every token's slot are gathered, and each of the two products is one `bmm` over
    all tokens. Adapters of a lower rank are padded with zeros. x: [num_tokens, in], y: [num_tokens,
    out], slots: int64 [num_tokens].
    """
    rows, begin = x.unsqueeze(1), 0
    for a, b in factors:
        hidden = torch.bmm(rows, _gather(a, slots).transpose(1, 2))
        end = begin + b.shape[2]
        y[:, begin:end] += torch.bmm(hidden, _gather(b, slots).transpose(1, 2)).squeeze(1)
        begin = end


def _gather(stacked: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
    """[num_slots + 1, 1, rows, columns] -> [num_tokens, rows, columns], read in memory's order."""
    matrices = stacked.squeeze(1)
    if matrices.is_contiguous():
        return matrices.index_select(0, slots)
    return matrices.transpose(1, 2).index_select(0, slots).transpose(1, 2)
