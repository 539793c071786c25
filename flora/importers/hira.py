"""HiRA adapters: W' = W * (1 + B A), rank r, is a pair of ones and r further pairs.

Source: Huang et al. 2025, "HiRA: Parameter-Efficient Hadamard High-Rank Adaptation", as PEFT stores
it: `hira_A` [r, in] and `hira_B` [out, r], with no further scaling.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from contracts.errors import InvalidAdapter
from flora.importers.base_modules import BaseModules
from flora.importers.scales import Method, Parts, Scales, check_shape


def to_scales(parts: Parts, config: Mapping[str, Any], base: BaseModules) -> Scales:
    """Raises InvalidAdapter on a shape of another model and on half a pair."""
    scales: Scales = {}
    for module, tensors in parts.items():
        if tensors.keys() != {"hira_A", "hira_B"}:
            raise InvalidAdapter(f"module {module} needs hira_A and hira_B, it has {list(tensors)}")
        size, down, up = base.sizes[module], tensors["hira_A"], tensors["hira_B"]
        check_shape(down, (len(down), size.in_features), f"{module}.hira_A")
        check_shape(up, (size.out_features, len(down)), f"{module}.hira_B")
        scales[module] = (
            np.concatenate([np.ones((1, size.in_features)), down]),
            np.concatenate([np.ones((1, size.out_features)), up.T]),
        )
    return scales


HIRA = Method("HiRA", re.compile(r"(?P<module>.+)\.(?P<part>hira_[AB])(?:\.[\w-]+)?"), to_scales)
