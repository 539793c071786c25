"""fLoRA as a method of PEFT: importing this package registers it, as PeftType FLORA."""

from flora.peft.config import FloraConfig
from flora.peft.layer import TunedLinear
from flora.peft.model import FloraModel
from flora.peft.registration import register

register()

__all__ = ["FloraConfig", "FloraModel", "TunedLinear"]
