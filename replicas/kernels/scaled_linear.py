"""A whole layer on a GPU as one operator: scale all pairs' inputs, one product, sum its outputs.

Opaque to torch.compile, so that the number of further rows, which the host knows, needs no graph of
its own. Imports Triton: only where `choose_kernel` says so.
"""

from functools import cache

import torch

from replicas.kernels.triton_scale import scale_in, scale_out
from replicas.step_state import STATES, StepState


def scaled_linear(
    x: torch.Tensor, bias: torch.Tensor | None, state: StepState, group: int, is_bounded: bool
) -> torch.Tensor:
    """sum over j of A_tj * (W (B_tj * x_t)) + b. x: [num_tokens, in] -> [num_tokens, out].

    One product, which reads W once, with a row a token and one a further pair: a token of rank 1
    costs one row, whatever the others have.
    """
    num_further = int(state.extra_rows[group])
    y = state.products[group](scale_in(x, state, group, num_further))
    return scale_out(y, state, group, bias, num_further, is_bounded)


def compile_kernels(
    state: StepState, group: int, bias: torch.Tensor | None, is_bounded: bool, dtype: torch.dtype
) -> None:
    """Run all that `scaled_linear` may run on a layer, but for its product, once on one token.

    Kernels are compiled when they are first used, which takes longer than a step.
    """
    shape, device = state.slab.layout.groups[group], state.slab.numbers.device
    state.set_tokens([0])
    for num_further in (0, 1):
        scale_in(
            torch.zeros(1, shape.in_features, dtype=dtype, device=device), state, group, num_further
        )
        y = torch.zeros(1 + num_further, shape.out_features, dtype=dtype, device=device)
        scale_out(y, state, group, bias, num_further, is_bounded)
    state.set_tokens([])


@cache
def register_scaled_linear() -> None:
    """Define `torch.ops.flora.scaled_linear`. Again is nothing."""
    schema = (
        "(Tensor x, Tensor? bias, int state, int group, int out_features, bool is_bounded)"
        " -> Tensor"
    )
    torch.library.define("flora::scaled_linear", schema)

    @torch.library.impl("flora::scaled_linear", "CompositeExplicitAutograd")
    def _(
        x: torch.Tensor,
        bias: torch.Tensor | None,
        state: int,
        group: int,
        out_features: int,
        is_bounded: bool,
    ) -> torch.Tensor:
        return scaled_linear(x, bias, STATES[state], group, is_bounded)

    @torch.library.register_fake("flora::scaled_linear")
    def _(
        x: torch.Tensor,
        bias: torch.Tensor | None,
        state: int,
        group: int,
        out_features: int,
        is_bounded: bool,
    ) -> torch.Tensor:
        return x.new_empty(x.shape[0], out_features)
