"""A CUDA device's side stream. The thin edge of `StagedWriter`: decides nothing."""

from collections.abc import Callable
from typing import Any

import torch

from replicas.slot_order import Event, Stream


class CudaCopies:
    """Copies to one device, on a stream of their own that goes on beside the steps."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        # Behind what made the memory that is copied to.
        self._stream.wait_stream(torch.cuda.current_stream(device))

    def new_buffer(self, num_bytes: int) -> torch.Tensor:
        return torch.empty(num_bytes, dtype=torch.uint8, pin_memory=True)

    def compute(self) -> Stream:
        stream: Any = torch.cuda.current_stream(self._device)
        return stream  # type: ignore[no-any-return]

    def queue(self, work: Callable[[], object], after: Any | None) -> Event:
        # Both are the thread's own: the engine's stream and device stay, and its memory, made in
        # inference mode or not, may be written.
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            if after is not None:
                self._stream.wait_event(after)
            work()
            # Blocking: whoever waits for it on the host sleeps.
            done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            done.record(self._stream)
        return done
