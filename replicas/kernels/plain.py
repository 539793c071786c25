"""fLoRA over a batch in plain tensor code: the native kernel's oracle, every device's fallback.

y_t = sum_j A_tj * (W (B_tj * x_t)) + b, Wen & Chaudhuri (ICLR 2024), section 3: here every token t
of the batch picks its own pairs (A, B) by slot. Shapes are the native ops'.
"""

from functools import cache

import torch

from flora.layout import SCALE_BYTES, vector_width
from replicas.step_state import STATES, StepState

_BOUNDS = {torch.float16: 2.0**15}
_BOUND = 2.0**100


def scale_in(x: torch.Tensor, state: StepState, offset: int) -> torch.Tensor:
    """B_t0 * x_t. x: [num_tokens, in] -> the same shape and dtype."""
    beta = _rows(state, x.shape[0], offset, x.shape[1])
    return (x.float() + x.float() * beta).to(x.dtype)


def scale_out(
    y: torch.Tensor, state: StepState, offset: int, bias: torch.Tensor | None
) -> torch.Tensor:
    """A_t0 * y_t + b. y: [num_tokens, out]; bias: float32 [out] or None -> as y."""
    alpha = _rows(state, y.shape[0], offset, y.shape[1])
    scaled = y.float() + y.float() * alpha
    return (scaled if bias is None else scaled + bias).to(y.dtype)


def bound(y: torch.Tensor) -> torch.Tensor:
    """y with finite numbers alone, small enough that a rotation of two of them is finite too.

    For what goes to the KV cache. A block of it is used again by other sequences without being
    cleared, and attention multiplies what lies beyond a sequence's end by zero: an infinity that an
    adapter left there would be not a number, and the end of everybody's answers.
    """
    most = bound_of(y.dtype)
    return y.nan_to_num(nan=-most).clamp(-most, most)


def bound_of(dtype: torch.dtype) -> float:
    """The largest number that `bound` lets through."""
    return _BOUNDS.get(dtype, _BOUND)


def add_pairs(y: torch.Tensor, x: torch.Tensor, state: StepState, group: int) -> None:
    """y_t += sum over j >= 1 of A_tj * (W (B_tj * x_t)), in place, one product for all of them.

    Not for a captured CUDA graph: whether there is anything to do is decided on the host.
    """
    if not int(state.extra_rows[group]):
        return
    tokens, starts = (part.to(x.device) for part in state.extra_pairs_of(group, x.shape[0]))
    flat, layout = state.slab.numbers.view(-1), state.slab.layout
    b_places = torch.arange(layout.beta_width(group), device=x.device)
    a_places = torch.arange(layout.alpha_width(group), device=x.device) + len(b_places)
    b = _values(flat[starts[:, None] + b_places], x.shape[1])
    a = _values(flat[starts[:, None] + a_places], y.shape[1])
    product = state.products[group]((x[tokens].float() * b).to(x.dtype))
    y.copy_(y.float().index_add_(0, tokens, product.float() * a))


@cache
def register_add_pairs() -> None:
    """Define `torch.ops.flora.add_pairs`, opaque to torch.compile. Again is nothing."""
    schema = "(Tensor(a!) y, Tensor x, int state, int group) -> ()"
    torch.library.define("flora::add_pairs", schema)

    @torch.library.impl("flora::add_pairs", "CompositeExplicitAutograd")
    def _(y: torch.Tensor, x: torch.Tensor, state: int, group: int) -> None:
        add_pairs(y, x, STATES[state], group)

    @torch.library.register_fake("flora::add_pairs")
    def _(y: torch.Tensor, x: torch.Tensor, state: int, group: int) -> None:
        return None


def _rows(state: StepState, num_tokens: int, offset: int, count: int) -> torch.Tensor:
    """This step's vectors at `offset`: float32 [num_tokens, count], a row a token."""
    width = vector_width(count, state.slab.layout.dtype)
    columns = state.slab.numbers[:, offset : offset + width]
    return _values(columns.index_select(0, state.slots[:num_tokens]), count)


def _values(stored: torch.Tensor, count: int) -> torch.Tensor:
    """Stored vectors [n, width] as float32 [n, count], int8 ones by the scale at their end."""
    values = stored[:, :count].float()
    if stored.dtype != torch.int8:
        return values
    return values * stored[:, -SCALE_BYTES:].contiguous().view(torch.float32)
