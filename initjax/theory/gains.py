"""The gain of any activation: what a layer's weights must make up for."""

import math
from collections.abc import Callable
from typing import Any

from initjax.support.arguments import one_of
from initjax.support.caching import cached
from initjax.support.errors import UserError
from initjax.theory.gaussian import derivative_moments, name, second_moment

KINDS = ("forward", "backward")


@cached
def gain(activation: str | Callable[..., Any], kind: str = "forward") -> float:
    """The factor by which weights must grow to make up for an activation.

        forward gain  = 1 / sqrt(E[phi(z)^2]),      z ~ N(0, 1),
        backward gain = 1 / sqrt(E[phi'(z)^2]).

    Weights with mean 0 and variance gain^2 / fan_in keep the second moment of the pre-activations
    at 1 (forward); with gain^2 / fan_out that of the gradients (backward). sqrt(2) for ReLU, which
    is He's rule (He et al. 2015, arXiv:1502.01852); 1.59253742 for tanh, where
    `torch.nn.init.calculate_gain` has a rule of thumb, 5/3.

    Args:
      activation: an elementwise function of JAX arrays with parameters bound, or a name:
        "elu", "gelu", "hard_tanh", "leaky_relu(0.2)", "linear", "relu", "selu", "sigmoid", "silu",
        "softplus", "tanh", ...
      kind: "forward" or "backward".

    Returns:
      A float, exact to 1e-12 or so.

    Raises:
      UserError (a ValueError): an unknown kind or name; an activation that is not elementwise, is
        NaN or infinite somewhere, has no finite moment, or is zero (or flat, for "backward")
        everywhere.

    >>> round(gain("tanh"), 8)
    1.59253742
    >>> import jax
    >>> round(gain(lambda x: jax.nn.leaky_relu(x, 0.1)) ** 2, 8)  # 2 / (1 + 0.1^2)
    1.98019802
    """
    if one_of(kind, KINDS, "kind") == "forward":
        moment = second_moment(activation)
    else:
        moment, _ = derivative_moments(activation)
    if not moment > 0:
        what = "zero" if kind == "forward" else "flat"
        raise UserError(f"{name(activation)} is {what} everywhere: it has no {kind} gain.")
    return 1 / math.sqrt(moment)
