import pytest

from contracts.errors import ServiceError
from replicas.kernels import choice
from replicas.kernels.choice import choose_kernel


@pytest.mark.parametrize(
    ("wanted", "device", "found"),
    [
        ("auto", "cpu", "native"),
        ("auto", "cuda", "triton"),
        ("auto", "xpu", "plain"),
        ("triton", "cuda", "triton"),
        ("plain", "cpu", "plain"),
        ("plain", "cuda", "plain"),
    ],
)
def test_every_device_has_its_best(wanted: str, device: str, found: str) -> None:
    assert choose_kernel(wanted, device) == found


def test_what_is_missing_is_replaced_unless_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    monkeypatch.setattr(choice, "load_native", lambda: False)
    assert choose_kernel("auto", "cuda") == "plain"
    assert choose_kernel("auto", "cpu") == "plain"
    for device in ("cpu", "cuda"):
        with pytest.raises(ServiceError, match="needs a CUDA device and Triton"):
            choose_kernel("triton", device)
