"""vLLM's entry point into this project (`vllm.general_plugins`), run in every vLLM process."""

from typing import Any

import torch


def register() -> None:
    """Let engines that were configured for fLoRA use our adapter manager; leave all others alone.

    Safe to call more than once. Only vLLM's mixin changes: no model, scheduler or kernel of it does.
    """
    from vllm.v1.worker.lora_model_runner_mixin import LoRAModelRunnerMixin

    original = LoRAModelRunnerMixin.load_lora_model
    if getattr(original, "is_flora", False):
        return

    def load_lora_model(
        self: Any, model: torch.nn.Module, vllm_config: Any, device: torch.device
    ) -> torch.nn.Module:
        from replicas.vllm_manager import FloraAdapterManager, FloraOptions

        options = FloraOptions.of(vllm_config)
        if options is None:
            return original(self, model, vllm_config, device)
        self.lora_manager = FloraAdapterManager(vllm_config, options, device)
        return self.lora_manager.create_lora_manager(model, vllm_config)

    load_lora_model.is_flora = True  # type: ignore[attr-defined]
    LoRAModelRunnerMixin.load_lora_model = load_lora_model
