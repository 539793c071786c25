"""What PEFT knows of FLORA."""

import copy
import pickle
from typing import Any

import pytest
from peft import PeftConfig, get_peft_config
from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.utils.peft_types import PeftType

from flora.peft import FloraConfig, FloraModel
from flora.peft.registration import register


def test_the_type_is_like_any_other() -> None:
    flora = PeftType("FLORA")
    assert flora is PeftType.FLORA is PeftType["FLORA"]
    assert flora in list(PeftType)
    assert flora == "FLORA"
    assert {flora: 1}["FLORA"] == 1
    assert pickle.loads(pickle.dumps(flora)) is flora is copy.deepcopy(flora)
    assert PEFT_TYPE_TO_PREFIX_MAPPING[flora] == "flora_"


def test_twice_is_once_and_anothers_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    register()
    assert PEFT_TYPE_TO_TUNER_MAPPING[PeftType.FLORA] is FloraModel
    monkeypatch.setitem(PEFT_TYPE_TO_TUNER_MAPPING, PeftType.FLORA, object)
    with pytest.raises(KeyError, match="not flora's"):
        register()


def test_a_config_by_its_type_alone() -> None:
    config = get_peft_config({"peft_type": "FLORA", "r": 2, "target_modules": ["v_proj", "q_proj"]})
    assert isinstance(config, FloraConfig)
    assert isinstance(config, PeftConfig)
    assert config.to_dict()["target_modules"] == ["q_proj", "v_proj"]
    assert FloraConfig().target_modules == "all-linear"
    assert FloraConfig().r == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"r": 0}, "positive integer, not 0"),
        ({"r": True}, "positive integer, not True"),
        ({"parametrization": "log"}, "not 'log'"),
        ({"layers_pattern": "h"}, "without layers_to_transform"),
        ({"target_modules": ".*q_proj", "layers_to_transform": 1}, "not a regex"),
    ],
)
def test_bad_values_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FloraConfig(**options)
