"""An activation and its initializer from one solver: DKS, TAT."""

import dataclasses
from collections.abc import Callable
from typing import Any

from initjax.initializers.base import Initializer
from initjax.initializers.constant import zeros
from initjax.initializers.orthogonal import DeltaOrthogonal, scaled_orthogonal
from initjax.theory.kernel_shaping import (
    ScaledLeakyRelu,
    ShapedActivation,
    shaped_activation,
    tailored_slope,
)


@dataclasses.dataclass(frozen=True)
class KernelShaping:
    """What a network is built of; see `dks` and `tat`.

    Attributes:
      activation: an elementwise function of JAX arrays.
    """

    activation: ShapedActivation | ScaledLeakyRelu

    @property
    def kernel_init(self) -> DeltaOrthogonal:
        """Scale-corrected orthogonal weights, at the centre of a convolution."""
        return scaled_orthogonal()

    @property
    def bias_init(self) -> Initializer:
        """Zeros."""
        return zeros


def dks(
    activation: str | Callable[..., Any] = "tanh", *, depth: int, zeta: float = 1.5
) -> KernelShaping:
    """Deep Kernel Shaping: a smooth activation, shifted and scaled, for a network without
    normalization and shortcuts.

    phi^(x) = gamma (phi(alpha x + beta) + delta), with the four numbers by which a layer's mean
    square and cosine maps Q and C satisfy

        Q(1) = 1,  Q'(1) = 1,  C(0) = 0,  C'(1) = zeta^(1 / depth):

    the signal keeps its size, stably, and the slope of the whole network's cosine map is zeta, near
    that of linear layers, at any depth (Martens et al. 2021, arXiv:2110.01765). Inputs are to be
    normalized to a mean square of 1 over their features.

    Args:
      activation: a smooth elementwise function of JAX arrays, or a name.
      depth: the layers between input and output that are activated.
      zeta: the slope of the whole network's cosine map at 1, above 1.

    Returns:
      A value with `activation`, `kernel_init` and `bias_init`.

    Raises:
      UserError (a ValueError): an argument out of its range, or an activation for which the solver
        finds no such numbers, such as ReLU.

    >>> shaped = dks("tanh", depth=100).activation
    >>> round(shaped.input_scale, 3), round(shaped.input_shift, 3)
    (0.09, 0.56)
    """
    return KernelShaping(shaped_activation(activation, depth, zeta))


def tat(*, depth: int, eta: float = 0.9, shortcut_weight: float = 0.0) -> KernelShaping:
    """Tailored Activation Transformation: the leaky ReLU for a network of this depth without
    normalization and shortcuts.

    phi(x) = sqrt(2 / (1 + a^2)) leaky_relu(x, a), with the slope a at which orthogonal inputs leave
    the network at the cosine eta, C_f(0) = eta. A layer maps the cosine c to

        C(c) = c + (1 - a)^2 / (pi (1 + a^2)) (sqrt(1 - c^2) - c arccos c),

    a residual block w x + sqrt(1 - w^2) f(x) to w^2 c + (1 - w^2) C(c) (Zhang, Botev & Martens
    2022, arXiv:2203.08120). Where ReLU itself stays below eta, a = 0.

    Args:
      depth: the layers, or residual blocks of one layer, between input and output.
      eta: the cosine at the output of inputs that are orthogonal, between 0 and 1.
      shortcut_weight: w, in [0, 1); 0 of plain networks.

    Returns:
      A value with `activation` (and its `slope`), `kernel_init` and `bias_init`.

    Raises:
      UserError (a ValueError): an argument out of its range.

    >>> round(tat(depth=50).activation.slope, 6)
    0.430523
    """
    return KernelShaping(ScaledLeakyRelu(tailored_slope(depth, eta, shortcut_weight)))
