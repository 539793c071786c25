"""Which kernels an engine runs on: the one place that decides."""

from importlib.util import find_spec
from typing import Literal

from contracts.errors import ServiceError
from replicas.kernels.native import load_native

Kernel = Literal["native", "triton", "plain"]


def choose_kernel(wanted: str, device_type: str) -> Kernel:
    """`wanted` is `replica.kernel`: "plain", "triton", or "auto" for the device's best.

    That is the native op on a CPU with a compiler, Triton on a GPU that has it, and plain tensor
    code elsewhere. Raises ServiceError when the device can't have what is wanted.
    """
    if wanted == "plain":
        return "plain"
    has_triton = device_type == "cuda" and find_spec("triton") is not None
    if wanted == "triton" and not has_triton:
        raise ServiceError(
            f'replica.kernel "triton" needs a CUDA device and Triton, not {device_type}'
        )
    if device_type == "cpu":
        return "native" if load_native() else "plain"
    return "triton" if has_triton else "plain"
