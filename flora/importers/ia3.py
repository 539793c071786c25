"""IA3 adapters: rank 1 with A = 1 in feed-forward modules, and with B = 1 elsewhere.

Source: Liu et al. 2022, "Few-Shot Parameter-Efficient Fine-Tuning", section 3.3, as PEFT stores it:
`ia3_l` [1, in] scales a module's input, [out, 1] its output.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from contracts.errors import InvalidAdapter
from flora.importers.base_modules import BaseModules, LinearSize
from flora.importers.scales import Method, Parts, Scales, check_shape
from flora.row import Floats


def to_scales(parts: Parts, config: Mapping[str, Any], base: BaseModules) -> Scales:
    """Raises InvalidAdapter on a shape of another model, and on a bias that IA3 would scale."""
    scales: Scales = {}
    for module, tensors in parts.items():
        size, vector = base.sizes[module], tensors["ia3_l"]
        ones = (np.ones((1, size.in_features)), np.ones((1, size.out_features)))
        if len(vector) == 1:
            check_shape(vector, (1, size.in_features), f"{module}.ia3_l")
            scales[module] = vector.astype(np.float64), ones[1]
        else:
            check_shape(vector, (size.out_features, 1), f"{module}.ia3_l")
            _check_bias(module, size, vector)
            scales[module] = ones[0], vector.T.astype(np.float64)
    return scales


def _check_bias(module: str, size: LinearSize, vector: Floats) -> None:
    # y = l * (W x + b) there, y = A * (W x) + b here.
    if size.has_bias and (vector != 1).any():
        raise InvalidAdapter(
            f"module {module} has a bias, which IA3 scales with its output and fLoRA does not;"
            " as feed-forward modules such layers can be imported"
        )


IA3 = Method("IA3", re.compile(r"(?P<module>.+)\.(?P<part>ia3_l)(?:\.[\w-]+)?"), to_scales)
