"""The elementwise passes of fLoRA as Triton kernels: gather, scale, and the sum over pairs.

    scale_in : x [num_tokens, in] -> [num_tokens + further, in]
        rows 0..num_tokens-1 are B_t0 * x_t, and behind them come B_tj * x_t for j >= 1, token by
        token, of those tokens alone whose adapters have further pairs on the group
    scale_out: y [num_tokens + further, out] -> [num_tokens, out]
        sum over j of A_tj * y_tj + b, in the place of y's first rows

Wen & Chaudhuri (ICLR 2024), section 3, with a slot a token. One program reads a block of a token's
numbers once, whatever its rank; tokens in slot 0 read no row and are not changed. Arithmetic is in
float32 with one rounding at the end. Which kernel runs follows from the host's count of further
rows; all else is read from memory at fixed addresses, so that a captured CUDA graph serves every
later step that has as many.

Tensors on the host go through Triton's interpreter, slowly: how tests see the same source work.
Imports Triton: only where `load_triton` says so.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from triton.runtime.interpreter import InterpretedFunction

from replicas.kernels.plain import bound_of
from replicas.step_state import StepState

_MAX_BLOCK = 1024


class Kernel:
    """One function, compiled for tensors on a device and interpreted for tensors on the host."""

    def __init__(self, function: Any) -> None:
        self._compiled = triton.jit(function)
        self._interpreted = InterpretedFunction(function)

    def launch(self, num_tokens: int, width: int, tensor: torch.Tensor, *args: Any) -> None:
        """A program a token and block of `width`; `tensor` is the kernel's first argument."""
        block = min(_MAX_BLOCK, 1 << (width - 1).bit_length())
        grid = (num_tokens, -(-width // block))
        if tensor.device.type == "cpu":
            self._interpreted[grid](tensor, *args, block)
        elif num_tokens:
            self._compiled[grid](tensor, *args, block)


def _scale_in(  # type: ignore[no-untyped-def]
    x, out, slots, rows, steps, counts, offsets, first,
    x_stride, row_stride, count_stride, beta_offset, beta_width, pair_width, width,
    is_int8: tl.constexpr, has_more: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * block + tl.arange(0, block)
    inside = columns < width
    slot = tl.load(slots + token).to(tl.int64)
    value = tl.load(x + token * x_stride + columns, mask=inside, other=0.0).to(tl.float32)
    begin = slot * row_stride + beta_offset
    used = columns < tl.where(slot == 0, 0, width)
    gain = tl.load(rows + begin + columns, mask=used, other=0).to(tl.float32)
    if is_int8:
        gain = gain * tl.load(steps + (begin + beta_width) // 4 - 1)
    scaled = tl.where(slot == 0, value, value + value * gain)
    tl.store(out + token * width + columns, scaled.to(out.dtype.element_ty), mask=inside)
    if has_more:
        target = tl.num_programs(0) + tl.load(first + token).to(tl.int64)
        # Layouts pad to 32: known to the compiler, loads are as wide as those of pair 0.
        begin = slot * row_stride + tl.multiple_of(tl.load(offsets + slot * count_stride), 32)
        for pair in range(tl.load(counts + slot * count_stride)):
            vector = begin + pair * pair_width
            gain = tl.load(rows + vector + columns, mask=inside, other=0).to(tl.float32)
            if is_int8:
                gain = gain * tl.load(steps + (vector + beta_width) // 4 - 1)
            place = out + (target + pair) * width + columns
            tl.store(place, (value * gain).to(out.dtype.element_ty), mask=inside)


def _scale_out(  # type: ignore[no-untyped-def]
    y, bias, slots, rows, steps, counts, offsets, first,
    row_stride, count_stride, alpha_offset, beta_width, alpha_width, width,
    most: tl.constexpr, is_int8: tl.constexpr, has_more: tl.constexpr, has_bias: tl.constexpr,
    is_bounded: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * block + tl.arange(0, block)
    inside = columns < width
    slot = tl.load(slots + token).to(tl.int64)
    value = tl.load(y + token * width + columns, mask=inside, other=0.0).to(tl.float32)
    begin = slot * row_stride + alpha_offset
    used = columns < tl.where(slot == 0, 0, width)
    gain = tl.load(rows + begin + columns, mask=used, other=0).to(tl.float32)
    if is_int8:
        gain = gain * tl.load(steps + (begin + alpha_width) // 4 - 1)
    total = tl.where(slot == 0, value, value + value * gain)
    if has_more:
        source = tl.num_programs(0) + tl.load(first + token).to(tl.int64)
        begin = slot * row_stride + tl.multiple_of(tl.load(offsets + slot * count_stride), 32)
        begin += beta_width
        for pair in range(tl.load(counts + slot * count_stride)):
            vector = begin + pair * (beta_width + alpha_width)
            gain = tl.load(rows + vector + columns, mask=inside, other=0).to(tl.float32)
            if is_int8:
                gain = gain * tl.load(steps + (vector + alpha_width) // 4 - 1)
            place = y + (source + pair) * width + columns
            total += tl.load(place, mask=inside, other=0.0).to(tl.float32) * gain
    if has_bias:
        total += tl.load(bias + columns, mask=inside, other=0.0)
    if is_bounded:
        # Not a number becomes the lower bound: the comparison is false for it.
        total = tl.where(total > -most, total, -most)
        total = tl.where(total < most, total, most)
    tl.store(y + token * width + columns, total.to(y.dtype.element_ty), mask=inside)


_scale_in_kernel = Kernel(_scale_in)
_scale_out_kernel = Kernel(_scale_out)


def scale_in(x: torch.Tensor, state: StepState, group: int, num_further: int) -> torch.Tensor:
    """B_tj * x_t for every pair. x: [num_tokens, in], rows of any stride -> [num_tokens +
    num_further, in] in the same dtype; `num_further` is the step's `extra_rows` of the group.
    """
    num_tokens, width = x.shape
    if x.stride(1) != 1:
        x = x.contiguous()
    out = torch.empty((num_tokens + num_further, width), dtype=x.dtype, device=x.device)
    rows, layout = state.slab.numbers, state.slab.layout
    counts, offsets, first = _further(state, group, num_tokens, num_further)
    _scale_in_kernel.launch(
        num_tokens, width, x, out, state.slots, rows, _steps(rows), counts, offsets, first,
        x.stride(0), rows.stride(0), counts.stride(0),
        layout.beta_offset(group), layout.beta_width(group), layout.pair_width(group), width,
        rows.dtype == torch.int8, num_further > 0,
    )  # fmt: skip
    return out


def scale_out(
    y: torch.Tensor,
    state: StepState,
    group: int,
    bias: torch.Tensor | None,
    num_further: int,
    is_bounded: bool,
) -> torch.Tensor:
    """sum over j of A_tj * y_tj + b. y: [num_tokens + num_further, out] as `scale_in` orders it,
    contiguous; its first rows are overwritten and returned. bias: float32 [out] or None.
    """
    num_tokens, width = len(y) - num_further, y.shape[1]
    y = y.contiguous()
    rows, layout = state.slab.numbers, state.slab.layout
    counts, offsets, first = _further(state, group, num_tokens, num_further)
    _scale_out_kernel.launch(
        num_tokens, width, y, y if bias is None else bias, state.slots, rows, _steps(rows),
        counts, offsets, first, rows.stride(0), counts.stride(0),
        layout.alpha_offset(group), layout.beta_width(group), layout.alpha_width(group), width,
        bound_of(y.dtype), rows.dtype == torch.int8, num_further > 0, bias is not None, is_bounded,
    )  # fmt: skip
    return y[:num_tokens]


def _steps(rows: torch.Tensor) -> torch.Tensor:
    """The slab as float32, in which the scale of an int8 vector is one number."""
    return rows.view(torch.float32) if rows.dtype == torch.int8 else rows


def _further(
    state: StepState, group: int, num_tokens: int, num_further: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What tells a kernel of a token's further pairs; anything where there are none."""
    if not num_further:
        return state.slots, state.slots, state.slots
    counts, offsets = state.further.table[:, :, group]
    return counts, offsets, state.further.first_rows(group, num_tokens)
