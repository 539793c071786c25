"""The tuner: puts fLoRA layers into a model and routes a batch's adapters to them."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTuner, check_target_module_exists
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn

from contracts.errors import InvalidRequest
from flora.base_model import fingerprint
from flora.peft.checkpoint import from_checkpoint, to_checkpoint
from flora.peft.config import FloraConfig
from flora.peft.input_sets import InputSets, find_input_sets
from flora.peft.layer import BASE, TunedLinear

_HALVES = (torch.float16, torch.bfloat16)


class FloraModel(BaseTuner):
    """A model whose linear layers carry fLoRA adapters; made by `peft.get_peft_model`."""

    prefix = "flora_"
    tuner_layer_cls = TunedLinear
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012 - PEFT declares it so

    _input_sets: InputSets
    _owners: dict[str, str]

    def add_weighted_adapter(self, *args: Any, **kwargs: Any) -> None:
        """Raises NotImplementedError: a weighted sum of products is no product."""
        raise NotImplementedError(
            "FLORA adapters scale weights, and a weighted sum of scalings has a higher rank:"
            " activate several with set_adapter([...]), which multiplies them, or train one"
        )

    @staticmethod
    def _check_target_module_exists(peft_config: FloraConfig, key: str) -> Any:
        # PEFT takes a whole name for a target in any layer, and all-linear gives whole names:
        # layers_to_transform is asked about the last part alone.
        targets = peft_config.target_modules
        if peft_config.layers_to_transform is not None and key in (targets or ()):
            peft_config = copy(peft_config)
            peft_config.target_modules = {key.rpartition(".")[2]}
        return check_target_module_exists(peft_config, key)

    def _prepare_model(self, peft_config: FloraConfig, model: nn.Module) -> None:
        _note_base(peft_config, model)
        self._input_sets = find_input_sets(model, peft_config)
        self._owners = {}

    def _create_and_replace(
        self,
        peft_config: FloraConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        owner = self._owners.setdefault(self._input_sets.get(current_key, current_key), current_key)
        shared = None
        if owner != current_key:
            shared = self.model.get_submodule(owner).flora_B[adapter_name]
        layer = target if isinstance(target, TunedLinear) else TunedLinear(target)
        layer.update_layer(adapter_name, peft_config, owner, shared)
        if layer is not target:
            self._replace_module(parent, target_name, layer, target)

    def _cast_adapter_dtype(self, adapter_name: str, autocast_adapter_dtype: bool = True) -> None:
        # In place, where PEFT would put new parameters: those would no longer be the siblings'.
        for layer in self.modules() if autocast_adapter_dtype else ():
            for side in (layer.flora_A, layer.flora_B) if isinstance(layer, TunedLinear) else ():
                if adapter_name in side and side[adapter_name].dtype in _HALVES:
                    side[adapter_name].data = side[adapter_name].data.float()

    @contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        """While it is open, every layer hears which adapter each example of the batch uses."""
        names = kwargs.pop("adapter_names", None)
        if names is None:
            yield
            return
        self._check_names(names)
        num_beams = kwargs.get("num_beams") or 1
        repeated = [name for name in names for _ in range(num_beams)]
        encoder = _encoder(self.model)
        once = set(encoder.modules()) if encoder is not None else set()
        hooks = [
            module.register_forward_pre_hook(
                # Beams are made after the encoder has run.
                partial(_pass_names, names if module in once else repeated),
                with_kwargs=True,
            )
            for module in self.modules()
            if isinstance(module, TunedLinear | AuxiliaryTrainingWrapper)
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _check_names(self, names: object) -> None:
        if not isinstance(names, list | tuple):
            raise TypeError(f"adapter_names must be a list of str, not {type(names).__name__}")
        if self.training:
            raise ValueError("Cannot pass `adapter_names` when the model is in training mode.")
        unknown = set(names) - {BASE, *self.peft_config}
        if unknown:
            raise ValueError(
                f"Trying to infer with non-existing adapter(s): {', '.join(sorted(unknown))}"
            )

    @classmethod
    def _get_adapter_state_dict(
        cls,
        model: nn.Module,
        config: FloraConfig,
        adapter_name: str,
        state_dict: dict[str, torch.Tensor],
        unwanted_adapter_names: list[str],
    ) -> dict[str, torch.Tensor]:
        selected = super()._get_adapter_state_dict(
            model, config, adapter_name, state_dict, unwanted_adapter_names
        )
        return to_checkpoint(model, config, adapter_name, selected)

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls,
        model: nn.Module,
        config: FloraConfig,
        adapter_name: str,
        state_dict: dict[str, torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        renamed = super()._remap_adapter_state_dict_for_load(
            model, config, adapter_name, state_dict
        )
        return from_checkpoint(model, config, adapter_name, renamed)


def _note_base(config: FloraConfig, model: nn.Module) -> None:
    """Fills in the base model's fingerprint, or warns where the adapter's is another's."""
    name = getattr(model, "name_or_path", "")
    try:
        ours = fingerprint(Path(name))
    except InvalidRequest:  # made from a config, or not in a folder of this machine
        return
    config.base_fingerprint = config.base_fingerprint or ours
    known = zip(ours.split("-"), config.base_fingerprint.split("-"), strict=False)
    if any(one != other for one, other in known):
        warnings.warn(
            f"the adapter was made for base model {config.base_fingerprint}, this one is {ours}",
            stacklevel=2,
        )


def _pass_names(
    names: list[str], module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs | {"adapter_names": names}


def _encoder(model: nn.Module) -> nn.Module | None:
    found: nn.Module | None = getattr(model, "get_encoder", lambda: None)()
    return None if found is model else found
