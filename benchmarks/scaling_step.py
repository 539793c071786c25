"""The scaling of all linear layers of one step, by every kernel, without the products between."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from flora.layout import AdapterLayout
from replicas.kernels import plain
from replicas.kernels.native import load_native
from replicas.slab import Slab
from replicas.step_state import StepState

WAYS = {"cpu": ("native",), "cuda": ("triton", "plain", "inductor")}
"""By device type."""

Run = Callable[[], object]


def steps_of(
    rng: np.random.Generator, num_slots: int, num_tokens: int, num_adapters: int
) -> NDArray[np.int32]:
    """A slot a token, in runs of equal length."""
    chosen = rng.permutation(num_slots)[:num_adapters] + 1
    return np.repeat(chosen.astype(np.int32), num_tokens // num_adapters)


class ScalingStep:
    """Activations in bfloat16 and a slab of rank-1 rows in the layout's format."""

    def __init__(
        self, layout: AdapterLayout, num_slots: int, device: torch.device, max_num_tokens: int
    ) -> None:
        self.layout = layout
        self.device = device
        self.state = StepState(Slab(layout, num_slots, device), max_num_tokens)
        # Any bytes below 60 are a small number in every format, and so is an int8 vector's scale.
        self.state.slab.numbers.view(torch.uint8)[1:].random_(0, 60)
        self._inputs: dict[int, torch.Tensor] = {}

    def prepare(self, num_tokens: int) -> None:
        """Steps have this many tokens from now on."""
        widths = {width for g in self.layout.groups for width in (g.in_features, g.out_features)}
        self._inputs = {
            width: torch.randn(num_tokens, width, device=self.device).bfloat16() for width in widths
        }
        for tensor in self._inputs.values():
            # A model compiles each layer's sizes; the offsets, of 30 layers and more, may vary.
            torch._dynamo.mark_static(tensor)
        self.use(np.zeros(num_tokens, np.int32))

    def use(self, slots: NDArray[np.int32]) -> None:
        """Token t of the next step uses `slots[t]`."""
        self.state.set_tokens(slots)

    def num_bytes(self, num_adapters: int) -> int:
        """What a step has to move: its rows once, and activations in and out of both passes."""
        num_tokens = len(next(iter(self._inputs.values())))
        widths = sum(group.in_features + group.out_features for group in self.layout.groups)
        rows = replace(self.layout, max_rank=1).base_width * self.layout.itemsize
        return num_adapters * rows + 2 * num_tokens * widths * 2

    def runner(self, way: str) -> Run:
        """One step by a way, warm; on a GPU the replay of a captured graph."""
        step = {
            "native": self._native,
            "triton": self._triton,
            "plain": lambda: self._plain(plain.scale_in, plain.scale_out),
            "inductor": self._inductor,
        }[way]
        if way == "native" and not load_native():
            raise RuntimeError("the native kernel needs a C++ compiler")
        return step if self.device.type == "cpu" else captured(step)

    def _native(self) -> None:
        ops, state, slab = torch.ops.flora, self.state, self.state.slab.numbers
        for g, group in enumerate(self.layout.groups):
            x, y = self._inputs[group.in_features], self._inputs[group.out_features]
            ops.scale_in(x, slab, state.slots, self.layout.beta_offset(g))
            alpha = self.layout.alpha_offset(g)
            ops.scale_out(
                y, x, slab, state.slots, None, state.extra_rows, alpha, False, state.id, g
            )

    def _triton(self) -> None:
        from replicas.kernels import triton_scale  # not on every machine

        for g, group in enumerate(self.layout.groups):
            triton_scale.scale_in(self._inputs[group.in_features], self.state, g, 0)
            y = self._inputs[group.out_features]
            triton_scale.scale_out(y, self.state, g, None, 0, False)

    def _plain(
        self, scale_in: Callable[..., torch.Tensor], scale_out: Callable[..., torch.Tensor]
    ) -> None:
        for g, group in enumerate(self.layout.groups):
            scale_in(self._inputs[group.in_features], self.state, self.layout.beta_offset(g))
            y = self._inputs[group.out_features]
            scale_out(y, self.state, self.layout.alpha_offset(g), None)

    def _inductor(self) -> None:
        with torch._dynamo.config.patch(recompile_limit=64):
            self._plain(_compiled_in, _compiled_out)


_compiled_in = torch.compile(plain.scale_in)
_compiled_out = torch.compile(plain.scale_out)


def captured(step: Run) -> Run:
    """The replay of a step from a CUDA graph, captured after two runs."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    replay: Run = graph.replay
    return replay
