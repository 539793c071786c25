"""Makes FLORA known to PEFT. Knows nothing of what the method does."""

from peft.utils.peft_types import PeftType, register_peft_method

from flora.peft.config import FloraConfig
from flora.peft.model import FloraModel

NAME = "FLORA"


def register() -> None:
    """Adds PeftType.FLORA and its tuner. Doing it twice changes nothing.

    Raises KeyError when somebody else has registered a method of this name.
    """
    if NAME not in PeftType.__members__:
        _add_member(NAME)
        register_peft_method(name=NAME.lower(), config_cls=FloraConfig, model_cls=FloraModel)
    elif _tuner() is not FloraModel:
        raise KeyError(f"PEFT has a method {NAME} already, which is not flora's")


def _tuner() -> object:
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

    return PEFT_TYPE_TO_TUNER_MAPPING.get(PeftType[NAME])


def _add_member(name: str) -> None:
    # `register_peft_method` takes members of this closed enum only, and an enum has no public way
    # to grow. What follows is what the enum's own constructor leaves behind for each member.
    member = str.__new__(PeftType, name)
    member._name_ = name
    member._value_ = name
    member.__objclass__ = PeftType
    member._sort_order_ = len(PeftType.__members__)
    setattr(PeftType, name, member)
    PeftType._member_names_.append(name)
    PeftType._member_map_[name] = member
    PeftType._value2member_map_[name] = member
