"""vLLM's entry point into this project (`vllm.general_plugins`), run in every vLLM process."""

from collections.abc import Callable
from typing import Any

import torch


def register() -> None:
    """Let engines that were configured for fLoRA use our adapter manager, and requests that ask for
    it go on behind their first tokens; leave all others alone.

    Safe to call more than once. No model, scheduler or kernel of vLLM changes.
    """
    from vllm.platforms.cpu import CpuPlatform
    from vllm.v1.worker.lora_model_runner_mixin import LoRAModelRunnerMixin

    from replicas.vllm_resume import install

    if not hasattr(LoRAModelRunnerMixin.load_lora_model, "is_flora"):
        _replace_manager(LoRAModelRunnerMixin)
        _allow_compilation(CpuPlatform)
        install()


def _replace_manager(mixin: Any) -> None:
    original: Callable[..., torch.nn.Module] = mixin.load_lora_model

    def load_lora_model(
        self: Any, model: torch.nn.Module, vllm_config: Any, device: torch.device
    ) -> torch.nn.Module:
        from replicas.vllm_graphs import keep_off_graphs
        from replicas.vllm_manager import FloraAdapterManager, FloraOptions
        from replicas.vllm_speech import follow_encoder

        options = FloraOptions.of(vllm_config)
        if options is None:
            return original(self, model, vllm_config, device)
        manager = FloraAdapterManager(vllm_config, options, device)
        self.lora_manager = manager
        model = manager.create_lora_manager(model, vllm_config)
        if device.type != "cpu":
            keep_off_graphs(self, manager.needs_host)
        if vllm_config.model_config.is_encoder_decoder:
            follow_encoder(self, manager.set_encoder_tokens)
        return model

    load_lora_model.is_flora = True  # type: ignore[attr-defined]
    mixin.load_lora_model = load_lora_model


def _allow_compilation(platform: Any) -> None:
    """vLLM never compiles a CPU model that has LoRA layers; ours trace as one graph."""
    original = platform.check_and_update_config.__func__

    def check_and_update_config(cls: Any, vllm_config: Any) -> None:
        from replicas.vllm_manager import FloraOptions

        lora_config = vllm_config.lora_config
        is_flora = lora_config is not None and FloraOptions.of(vllm_config) is not None
        vllm_config.lora_config = None if is_flora else lora_config
        try:
            original(cls, vllm_config)
        finally:
            vllm_config.lora_config = lora_config

    platform.check_and_update_config = classmethod(check_and_update_config)
