"""One upload of any kind of adapter to its row. Knows no server; numpy only."""

from contracts.errors import InvalidAdapter
from flora.adapter_config import AdapterLimits, parse_config
from flora.adapter_files import adapter_in
from flora.codec import CompiledAdapter, compile_adapter
from flora.layout import AdapterLayout
from flora.lora_codec import compile_lora
from flora.lora_config import PEFT_TYPE
from flora.lora_files import read_lora
from flora.lora_layout import LoraLayout
from flora.tensor_file import TensorFile


def compile_upload(
    layout: AdapterLayout,
    lora: LoraLayout | None,
    weights: bytes,
    config_json: bytes | None,
    limits: AdapterLimits,
) -> CompiledAdapter:
    """The row of a fLoRA adapter, or of a LoRA where the engine takes those: `lora` is its layout.

    `peft_type` of the config tells them apart. Raises InvalidAdapter and its kinds.
    """
    file = TensorFile.read(weights, limits)
    config_json = file.config_json(config_json)
    if parse_config(config_json, limits).get("peft_type") != PEFT_TYPE:
        return compile_adapter(layout, adapter_in(file, config_json, limits), limits)
    if lora is None:
        raise InvalidAdapter(
            "this server takes no LoRA adapters: its setting replica.lora_rank is 0. Set it to the"
            " rank of the adapter, or make a fLoRA adapter of it with `flora convert`",
            "peft_type",
        )
    return compile_lora(lora, read_lora(file, config_json, limits), limits)
