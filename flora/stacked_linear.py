"""Many adapters on one linear layer, another for every sequence of a batch, in plain torch."""

import torch
from torch import nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from contracts.errors import InvalidRequest
from flora.linear import BaseLinear, identity_b, linear_features


class Selection:
    """Which adapter each sequence of the batch at hand uses; all layers of a model share one.

    `index` is int64 [sequences]. It has to stay until the backward pass is done, because layers
    that are checkpointed run again there.
    """

    def __init__(self) -> None:
        self.index = torch.zeros(0, dtype=torch.long)

    def rows(self, stacked: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Of `stacked` [adapters, rank, features] those of x's sequences: [sequences, rank, ...].

        Raises InvalidRequest when x's first dimension is not the sequences of the batch.
        """
        if len(x) != len(self.index):
            raise InvalidRequest(
                f"a layer that sees {len(x)} rows for {len(self.index)} sequences cannot be adapted"
                " by sequence; leave it out of the target modules"
            )
        # Unlike index_select, indexing has a backward pass that is deterministic on every device.
        return stacked[self.index]


class StackedLinear(nn.Module):
    """For sequence i with adapter k: y_i = sum_j A_kj * (W (B_kj * x_i)) + b, with W and b frozen.

    x: [sequences, ..., in]; y: [sequences, ..., out], of x's dtype. `flora_A` [adapters, rank, out]
    and `flora_B` [adapters, rank, in] hold pair 0 as its deviation from one, further pairs as they
    are; a new layer is the identity for every adapter. Pass another layer's `flora_B` to share it.
    Source: Wen & Chaudhuri 2024, equation 6; `flora.linear.FloraLinear` is its oracle.
    """

    def __init__(
        self,
        base: BaseLinear,
        num_adapters: int,
        rank: int,
        generator: torch.Generator,
        selection: Selection,
        flora_B: nn.Parameter | None = None,
    ) -> None:
        super().__init__()
        in_features, out_features = linear_features(base)
        self.base = base.requires_grad_(False)
        self._selection = selection
        self.flora_A = nn.Parameter(torch.zeros(num_adapters, rank, out_features))
        if flora_B is None:
            # All adapters start alike, each as if it were alone.
            flora_B = nn.Parameter(
                identity_b(rank, in_features, generator).repeat(num_adapters, 1, 1)
            )
        self.flora_B = flora_B

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight, bias = self.base.weight, self.base.bias
        if isinstance(self.base, Conv1D):
            weight = weight.T
        pairs = zip(self._values(self.flora_B, x), self._values(self.flora_A, x), strict=True)
        b, a = next(pairs)
        y = functional.linear(x * b, weight) * a
        for b, a in pairs:
            y = y + functional.linear(x * b, weight) * a
        return y if bias is None else y + bias

    def _values(self, stacked: torch.Tensor, x: torch.Tensor) -> list[torch.Tensor]:
        """By pair: the values for each sequence, shaped to be multiplied with x or y."""
        first, *further = self._selection.rows(stacked, x).unbind(1)
        shape = (len(x), *(1 for _ in range(x.dim() - 2)), -1)
        return [values.to(x.dtype).view(shape) for values in (1 + first, *further)]
