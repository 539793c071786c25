"""Which kind of adapter an upload is, and what a server without LoRA says to one."""

import json

import pytest

from contracts.errors import AdapterTooLarge, InvalidAdapter
from flora.adapter_config import AdapterLimits
from flora.codec import compile_adapter
from flora.lora_row import LoraHeader
from flora.row import RowHeader
from flora.tensor_file import METADATA_KEY
from flora.upload import compile_upload
from tests.flora.adapters import LIMITS, make_adapter, make_bytes
from tests.flora.layouts import make_layout
from tests.flora.loras import make_config, make_factors, make_lora_layout, make_weights

LAYOUT = make_layout()
LORA = make_lora_layout(LAYOUT)
WEIGHTS = make_weights(make_factors(LORA))


def test_the_config_tells_the_kinds_apart() -> None:
    lora = compile_upload(LAYOUT, LORA, WEIGHTS, make_config(), LIMITS)
    assert LoraHeader.read(lora.blob).ranks == (2, 2, 2)
    flora = compile_upload(LAYOUT, LORA, *make_bytes(), LIMITS)
    assert RowHeader.read(flora.blob).extra_pairs == (2,)
    assert flora == compile_adapter(LAYOUT, make_adapter(LAYOUT), LIMITS)


def test_a_server_without_lora_says_what_to_do() -> None:
    with pytest.raises(InvalidAdapter, match=r"replica\.lora_rank is 0.*flora convert") as caught:
        compile_upload(LAYOUT, None, WEIGHTS, make_config(), LIMITS)
    assert caught.value.param == "peft_type"


def test_one_file_alone() -> None:
    length = int.from_bytes(WEIGHTS[:8], "little")
    header = json.loads(WEIGHTS[8 : 8 + length])
    header["__metadata__"] = {METADATA_KEY: make_config().decode()}
    text = json.dumps(header).encode()
    whole = len(text).to_bytes(8, "little") + text + WEIGHTS[8 + length :]
    first = compile_upload(LAYOUT, LORA, whole, None, LIMITS)
    assert first == compile_upload(LAYOUT, LORA, WEIGHTS, make_config(), LIMITS)


def test_the_kind_does_not_lift_the_limits() -> None:
    with pytest.raises(AdapterTooLarge, match="at most 10 are"):
        compile_upload(LAYOUT, LORA, WEIGHTS, make_config(), AdapterLimits(max_file_bytes=10))
    with pytest.raises(InvalidAdapter, match="must be a JSON object"):
        compile_upload(LAYOUT, LORA, WEIGHTS, b"[]", LIMITS)
