"""What an activation is multiplied by to have unit variance."""

import math
from collections.abc import Callable
from typing import Any

from initjax.support.errors import UserError
from initjax.theory.gaussian import expectation, name, second_moment


def unit_scaling_gain(activation: str | Callable[..., Any]) -> float:
    """1 / sd of phi(z), z ~ N(0, 1): behind it a layer's outputs have variance 1.

    sqrt(2 / (1 - 1 / pi)) = 1.712859 of ReLU (Blake, Orr & Luschi 2023, Unit scaling,
    arXiv:2303.11257). `initjax.gain` makes the second moment 1, sqrt(2) of ReLU, which is what the
    next layer's variance depends on.

    Raises:
      UserError (a ValueError): as `initjax.gain`; an activation that is constant.

    >>> round(unit_scaling_gain("relu"), 6)
    1.712859
    """
    variance = second_moment(activation) - expectation(activation) ** 2
    if not variance > 0:
        raise UserError(f"{name(activation)} is constant: it has no gain.")
    return 1 / math.sqrt(variance)
