"""The weights and biases of the edge of chaos."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Unpack

from jax.typing import DTypeLike

from initjax.distributions.normal import Normal
from initjax.initializers.axes import FanArguments
from initjax.initializers.base import Initializer, register
from initjax.initializers.constant import Constant
from initjax.initializers.scaled import Scaled
from initjax.initializers.variance_scaling import VarianceScaling
from initjax.theory.fixed_points import CriticalPoint, critical_point

_SOURCE = "Poole et al. 2016, arXiv:1606.05340; Schoenholz et al. 2017, arXiv:1611.01232"


@dataclasses.dataclass(frozen=True)
class EdgeOfChaos(CriticalPoint):
    """A critical point as initializers; see `edge_of_chaos`."""

    @property
    def kernel_init(self) -> VarianceScaling:
        """w ~ N(0, sw^2 / fan_in)."""
        return VarianceScaling(self.weight_variance, "fan_in", Normal())

    @property
    def bias_init(self) -> Initializer:
        """b ~ N(0, sb^2)."""
        return _bias(self.bias_variance, None)


def _bias(variance, dtype) -> Initializer:
    return Scaled(math.sqrt(variance), Normal(), dtype) if variance else Constant(0.0, dtype)


def edge_of_chaos(
    activation: str | Callable[..., Any], q: float = 1.0, *, bias_variance: float | None = None
) -> EdgeOfChaos:
    """The weight and bias variances at which a deep plain network keeps signals and gradients.

    In wide layers with W ~ N(0, sw^2 / fan_in) and b ~ N(0, sb^2) the variance of the
    pre-activations maps from layer to layer as q' = sw^2 E[phi(sqrt(q) z)^2] + sb^2. At its fixed
    point q* the edge of chaos is where chi_1 = sw^2 E[phi'(sqrt(q*) z)^2] = 1 (Poole et al. 2016,
    arXiv:1606.05340; Schoenholz et al. 2017, arXiv:1611.01232). By q*,

        sw^2 = 1 / E[phi'(sqrt(q*) z)^2],    sb^2 = q* - sw^2 E[phi(sqrt(q*) z)^2].

    A fixed point is stable where chi_q = dq'/dq = sw^2 E[phi'^2 + phi phi''] is below 1. ReLU and
    other homogeneous activations have chi_q = 1: every q* is a fixed point, sw^2 = 2, sb^2 = 0,
    which is He's rule. Such marginal points are accepted (chi_q up to 1 + 1e-9).

    Args:
      activation: a name or an elementwise function of JAX arrays.
      q: q*, positive.
      bias_variance: sb^2, instead of `q`, for which q* is solved. With 0, homogeneous activations
        have any q*, and are given q* = 1; others such as tanh have q* = 0, which deep layers
        approach slowly, as 1 / depth.

    Returns:
      A value with `kernel_init`, `bias_init`, `weight_variance`, `bias_variance`, `q`, `chi_1` and
      `chi_q`.

    Raises:
      UserError (a ValueError): no such point (sb^2 would be negative: sigmoid below q* = 45.6,
        softplus anywhere), an unstable one (chi_q > 1: GELU below 3.56, SiLU below 14.3), with the
        nearest stable one; or an argument out of its range.

    >>> point = edge_of_chaos("tanh", bias_variance=0.05)
    >>> round(point.q, 8), round(point.weight_variance, 8), point.chi_q < 1
    (0.57004788, 1.76095464, True)
    >>> import jax
    >>> point.kernel_init(jax.random.key(0), (512, 512)).shape
    (512, 512)
    """
    return EdgeOfChaos(**vars(critical_point(activation, q, bias_variance=bias_variance)))


@register(
    "N(0, sw^2 / fan_in), sw^2 = 1 / E[phi'(sqrt(q) z)^2]",
    _SOURCE,
    "deep plain networks of any activation that has a stable point",
)
def edge_of_chaos_kernel(
    activation: str | Callable[..., Any] = "tanh",
    q: float = 1.0,
    *,
    bias_variance: float | None = None,
    dtype: DTypeLike | None = None,
    **fan: Unpack[FanArguments],
) -> VarianceScaling:
    """The weights of `edge_of_chaos`, as a factory: w ~ N(0, sw^2 / fan_in).

    Args:
      activation: as in `edge_of_chaos`.
      q: as in `edge_of_chaos`.
      bias_variance: as in `edge_of_chaos`.
      dtype: dtype of the weights where the call names none.
      **fan: in_axis, out_axis, batch_axis, groups, transposed, split, as in `initjax.fans`.

    Raises:
      UserError (a ValueError): as `edge_of_chaos`.

    >>> edge_of_chaos_kernel("linear")
    variance_scaling(distribution=Normal())
    """
    scale = edge_of_chaos(activation, q, bias_variance=bias_variance).weight_variance
    return VarianceScaling(scale, "fan_in", Normal(), dtype=dtype, **fan)


@register(
    "N(0, sb^2), sb^2 = q - sw^2 E[phi(sqrt(q) z)^2]",
    _SOURCE,
    "the biases beside edge_of_chaos_kernel",
)
def edge_of_chaos_bias(
    activation: str | Callable[..., Any] = "tanh",
    q: float = 1.0,
    *,
    bias_variance: float | None = None,
    dtype: DTypeLike | None = None,
) -> Initializer:
    """The biases of `edge_of_chaos`, as a factory: b ~ N(0, sb^2), zeros where sb^2 is 0.

    Args:
      activation: as in `edge_of_chaos`.
      q: as in `edge_of_chaos`.
      bias_variance: as in `edge_of_chaos`.
      dtype: dtype of the biases where the call names none.

    Raises:
      UserError (a ValueError): as `edge_of_chaos`.

    >>> edge_of_chaos_bias("relu")
    constant()
    """
    return _bias(edge_of_chaos(activation, q, bias_variance=bias_variance).bias_variance, dtype)
