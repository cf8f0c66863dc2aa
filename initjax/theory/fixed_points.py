"""What theory says of infinitely wide networks before training: fixed points, edges of chaos.

Mean-field theory follows the variance of a signal, and the correlation of two signals, from layer
to layer of a random network, as Gaussian expectations (`initjax.theory.gaussian`).
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from initjax.support.arguments import count, finite, not_negative
from initjax.support.errors import UserError
from initjax.theory import gaussian
from initjax.theory.activations import get_activation
from initjax.theory.gaussian import (
    derivative_moments,
    evaluator,
    name,
    product_moment,
    second_moment,
)
from initjax.theory.moments import moments

# chi within this of 1 is 1: quadrature and root finding are exact to some 1e-12.
_MARGIN = 1e-9


def predict_residual_variance(
    num_layers: int,
    activation: str | Callable[..., Any] = "relu",
    *,
    weight_variance: float = 2.0,
    bias_variance: float = 0.0,
    output_variance: float | Sequence[float] = 1.0,
    output_bias_variance: float = 0.0,
    input_variance: float = 1.0,
) -> np.ndarray:
    """Mean squared value of the stream after each residual branch, for infinitely wide layers.

    For x_l = x_(l-1) + V phi(W x_(l-1) + b) + a, W ~ N(0, sw^2 / fan_in), b ~ N(0, sb^2),
    V ~ N(0, sv^2 / fan_in), a ~ N(0, sa^2) (Yang & Schoenholz 2017, arXiv:1712.08969),

        q_l = sw^2 p_(l-1) + sb^2,    p_l = p_(l-1) + sv^2 E[phi(sqrt(q_l) z)^2] + sa^2.

    The defaults sv^2 = 1, sa^2 = 0 are also their reduced network, without V and a, for odd
    activations such as tanh. ReLU without biases: p_L = p_0 (1 + sv^2 sw^2 / 2)^L.

    Args:
      num_layers: L, the residual branches.
      activation: a name or an elementwise function of JAX arrays.
      weight_variance: sw^2.
      bias_variance: sb^2.
      output_variance: sv^2, one number or one for every branch.
      output_bias_variance: sa^2.
      input_variance: p_0.

    Returns:
      p_0 ... p_L, float64 [L + 1].

    Raises:
      UserError (a ValueError): a negative variance, another number of output variances than
        layers, or an activation that is not elementwise.

    >>> p = predict_residual_variance(20, output_variance=1 / 20)  # sv^2 = c / L with c = 1
    >>> round(float(p[-1]), 4)  # (1 + 1/20)^20, near e
    2.6533
    """
    num_layers = count(num_layers, "num_layers", 0)
    get_activation(activation)
    weight_variance = not_negative(weight_variance, "weight_variance")
    bias_variance = not_negative(bias_variance, "bias_variance")
    output_bias_variance = not_negative(output_bias_variance, "output_bias_variance")
    variance = not_negative(input_variance, "input_variance")
    outputs = np.atleast_1d(np.asarray(output_variance, np.float64)).tolist()
    if np.ndim(output_variance) == 0:
        outputs = outputs * num_layers
    if len(outputs) != num_layers:
        raise UserError(f"output_variance has {len(outputs)} numbers for num_layers={num_layers}.")
    variances = [variance]
    for output in outputs:
        q = weight_variance * variance + bias_variance
        moment = _second_moment(activation, q)
        variance += not_negative(output, "output_variance") * moment + output_bias_variance
        variances.append(variance)
    return np.array(variances)


def _second_moment(activation, variance):
    return second_moment(activation, variance) if variance > 0 else _at_zero(activation) ** 2


def _at_zero(activation) -> float:
    return float(evaluator(get_activation(activation))(np.zeros(1))[0, 0])


@dataclasses.dataclass(frozen=True)
class CriticalPoint:
    """A point where signals neither converge nor decorrelate exponentially; see `critical_point`.

    Attributes:
      activation: the activation function, or its name.
      q: q*, the variance of the pre-activations, which the layers keep.
      weight_variance: sw^2; weights have the variance sw^2 / fan_in.
      bias_variance: sb^2, the variance of the biases.
      chi_1: the factor by which gradients, and distances of nearby inputs, grow per layer: 1.
      chi_q: the factor by which a deviation from q* grows per layer: at most 1.
    """

    activation: str | Callable[..., Any]
    q: float
    weight_variance: float
    bias_variance: float
    chi_1: float
    chi_q: float


def critical_point(
    activation: str | Callable[..., Any], q: float = 1.0, *, bias_variance: float | None = None
) -> CriticalPoint:
    """The point by q*, or by sb^2: what `initjax.edge_of_chaos` explains, arguments and errors."""
    get_activation(activation)
    if bias_variance is not None:
        q = _solve_q(activation, not_negative(bias_variance, "bias_variance"))
        if q == 0:
            return _origin(activation)
    elif finite(q, "q") <= 0:
        raise UserError(f"q={q} must be positive.")
    q = float(q)
    weight_variance, implied, chi_q = _point(activation, q)
    name = f"activation={gaussian.name(activation)}"
    if implied < -_MARGIN * q:
        raise UserError(
            f"{name} has no edge of chaos at q={q:.6g}: with chi_1 = 1 (weight variance"
            f" {weight_variance:.6g}) the bias variance would be {implied:.6g}, below 0."
            f"{_nearest(activation, q)}"
        )
    if chi_q > 1 + _MARGIN:
        raise UserError(
            f"{name} has no stable edge of chaos at q={q:.6g}: chi_q = {chi_q:.6g} exceeds 1, so"
            f" that the variance of the signal leaves q.{_nearest(activation, q)}"
        )
    if bias_variance is None:
        bias_variance = implied if implied > _MARGIN * q else 0.0
    chi_1 = weight_variance * derivative_moments(activation, q)[0]
    values = (q, weight_variance, float(bias_variance), chi_1, chi_q)
    # What quadrature leaves after 12 digits is noise.
    return CriticalPoint(activation, *(float(f"{value:.12g}") for value in values))


def _point(activation, q) -> tuple[float, float, float]:
    """(sw^2, sb^2, chi_q) with chi_1 = 1 at q."""
    slope, growth = derivative_moments(activation, q)
    if not slope > 0:
        raise UserError(f"activation={activation!r} is flat: no weights give chi_1 = 1.")
    return 1 / slope, q - second_moment(activation, q) / slope, growth / slope


# Where fixed points are looked for: closer to 0 quadrature cannot tell sb^2 from 0, and no
# pre-activations have a larger variance.
_CANDIDATES = np.geomspace(1e-4, 1e4, 81)


def stable_q(activation: str | Callable[..., Any], q: float = 1.0) -> float | None:
    """The q* nearest to `q`, in factors, at which the edge of chaos exists and is stable.

    None where there is none from 1e-4 to 1e4. Those of GELU begin at 3.56155, those of SiLU at
    14.3202, those of the sigmoid at 45.6243; the softplus has none.
    """

    def excess(q):  # above 0: unstable, or of a negative sb^2
        _, bias_variance, chi_q = _point(activation, q)
        return max(chi_q - 1, -bias_variance / q) - _MARGIN / 2

    if excess(q) <= 0:
        return q
    values = [excess(candidate) for candidate in _CANDIDATES]
    found = [candidate for candidate, value in zip(_CANDIDATES, values, strict=True) if value <= 0]
    if not found:
        return None
    from scipy import optimize

    distances = np.abs(np.log(np.array(found) / q))
    near = float(found[int(distances.argmin())])
    step = (_CANDIDATES[1] / _CANDIDATES[0]) ** (1.0 if near < q else -1.0)
    bound = q if min(near, near * step) < q < max(near, near * step) else near * step
    if excess(bound) <= 0:
        return near
    edge = optimize.root_scalar(excess, bracket=sorted((near, bound)), xtol=1e-12, rtol=1e-12).root
    # Rounded to its stable side, so that the number that is shown is one that works.
    digits = 5 - math.floor(math.log10(edge))
    rounded = (math.ceil if near > edge else math.floor)(edge * 10**digits) / 10**digits
    return rounded if excess(rounded) <= 0 else near


def _nearest(activation, q) -> str:
    found = stable_q(activation, q)
    if found is None:
        return f"\nIt has no stable one between q={_CANDIDATES[0]:g} and {_CANDIDATES[-1]:g}."
    weight_variance, bias_variance, _ = _point(activation, found)
    return (
        f"\nThe nearest stable one is at q={found:.6g}: weight variance {weight_variance:.6g},"
        f" bias variance {max(bias_variance, 0):.6g}."
    )


def _solve_q(activation, bias_variance) -> float:
    """The smallest q* with this sb^2 and chi_1 = 1 that is stable, else any; 0 is a limit."""

    def excess(q):
        return _point(activation, q)[1] - bias_variance

    from scipy import optimize  # here: at import it would take 0.2 s of every user

    values = [excess(q) for q in _CANDIDATES]
    if bias_variance == 0:
        if all(abs(value) < _MARGIN * q for value, q in zip(values, _CANDIDATES, strict=True)):
            return 1.0  # homogeneous: any q*
        if abs(_at_zero(activation)) < _MARGIN and values[0] >= 0:
            return 0.0
    roots = [
        optimize.root_scalar(excess, bracket=(low, high), xtol=1e-14, rtol=1e-14).root
        for low, high, a, b in zip(
            _CANDIDATES[:-1], _CANDIDATES[1:], values[:-1], values[1:], strict=True
        )
        if (a < 0) != (b < 0)
    ]
    if not roots:
        raise UserError(
            f"activation={name(activation)} has no edge of chaos with"
            f" bias_variance={bias_variance}: where chi_1 = 1 it lies between"
            f" {max(0, bias_variance + min(values)):.4g} and {bias_variance + max(values):.4g}."
        )
    stable = [q for q in roots if _point(activation, q)[2] <= 1 + _MARGIN]
    return (stable or roots)[0]


def _origin(activation) -> CriticalPoint:
    slope = derivative_moments(activation, 1e-12)[0]
    return CriticalPoint(activation, 0.0, float(f"{1 / slope:.10g}"), 0.0, 1.0, 1.0)


@dataclasses.dataclass(frozen=True)
class DepthScales:
    """Over how many layers a wide plain network forgets; see `depth_scales`.

    Attributes:
      q: q*, the variance of the pre-activations that deep layers have.
      correlation: c*, the correlation of any two inputs that deep layers have; 1 where chi_1 <= 1.
      chi_1: by how much gradients grow per layer.
      chi_q: by how much a deviation from q* grows per layer.
      variance_scale: xi_q = -1 / log chi_q; infinite at chi_q = 1, where it falls as 1 / depth.
      correlation_scale: xi_c = -1 / log C'(c*); infinite at chi_1 = 1, where it falls as a power.
      gradient_scale: 1 / |log chi_1|; infinite at chi_1 = 1.
    """

    q: float
    correlation: float
    chi_1: float
    chi_q: float
    variance_scale: float
    correlation_scale: float
    gradient_scale: float


def depth_scales(
    activation: str | Callable[..., Any],
    weight_variance: float,
    bias_variance: float = 0.0,
    *,
    q: float = 1.0,
) -> DepthScales | None:
    """Depth scales of plain networks (Schoenholz et al. 2017, arXiv:1611.01232).

    In layers e-fold, the variance tends to q* over xi_q = -1 / log chi_q, and the correlation of
    two inputs to c* over xi_c = -1 / log C'(c*), C being the `correlation_map`. In the ordered
    phase c* is 1 and its slope there is chi_1; in the chaotic phase c* is below 1, where C is less
    steep. At criticality no depth scale exists: changes go as a power of the depth.

    Args:
      activation: a name or an elementwise function of JAX arrays.
      weight_variance: sw^2; weights have the variance sw^2 / fan_in.
      bias_variance: sb^2.
      q: the variance from which the layers tend to q*, where there are several.

    Returns:
      The scales; None where the variance grows without end.

    Raises:
      UserError (a ValueError): an argument out of its range.

    >>> chaos = depth_scales("tanh", 2.5, 0.05)
    >>> round(chaos.correlation_scale, 3), round(chaos.gradient_scale, 3)
    (11.796, 7.979)
    >>> depth_scales("tanh", 1.0).variance_scale
    inf
    """
    get_activation(activation)
    weight_variance = not_negative(weight_variance, "weight_variance")
    bias_variance = not_negative(bias_variance, "bias_variance")
    found = _settle(activation, weight_variance, bias_variance, q)
    if found is None:
        return None
    slope, growth = derivative_moments(activation, max(found, 1e-12))
    chi_1, chi_q = weight_variance * slope, weight_variance * growth
    correlation, steepness = 1.0, chi_1
    if chi_1 > 1 + _CRITICAL and found > 0:
        correlation, steepness = _chaotic(activation, weight_variance, bias_variance, found)
    scales = (_scale(factor) for factor in (chi_q, steepness, chi_1))
    return DepthScales(found, correlation, chi_1, chi_q, *scales)


# Factors within this of 1 are those of criticality: at q* = 0 they are taken at q = 1e-12.
_CRITICAL = 1e-8


def _scale(factor) -> float:
    if abs(factor - 1) <= _CRITICAL:
        return math.inf
    return 1 / abs(math.log(factor)) if factor > 0 else 0.0


def _settle(activation, weight_variance, bias_variance, q) -> float | None:
    """The q* to which the variance tends from `q`; None: to none."""

    def excess(q):
        return weight_variance * _second_moment(activation, q) + bias_variance - q

    start = excess(q)
    if abs(start) <= _CRITICAL * q:
        return q
    step = 2.0 if start > 0 else 0.5
    near, far = q, q * step
    while (excess(far) > 0) == (start > 0):
        near, far = far, far * step
        if far > 1e12:
            return None
        if far < 1e-12:
            return 0.0
    from scipy import optimize

    return optimize.root_scalar(excess, bracket=sorted((near, far)), rtol=1e-13, xtol=1e-15).root


def _chaotic(activation, weight_variance, bias_variance, q) -> tuple[float, float]:
    """(c*, C'(c*)) below 1, by the Hermite series of the activation."""
    squares = moments(get_activation(activation), np.array([q])).series[0] ** 2
    orders = np.arange(len(squares))

    def correlation_of(c):
        return (weight_variance * squares @ c**orders + bias_variance) / q

    if correlation_of(0.0) <= _CRITICAL:
        c = 0.0
    else:
        from scipy import optimize

        c = optimize.root_scalar(
            lambda c: correlation_of(c) - c, bracket=(0.0, 1 - 1e-6), xtol=1e-14
        ).root
    return c, float(weight_variance * (orders * squares)[1:] @ c ** orders[:-1] / q)


def correlation_map(
    activation: str | Callable[..., Any],
    correlation: float,
    q: float = 1.0,
    *,
    weight_variance: float | None = None,
    bias_variance: float | None = None,
) -> float:
    """The correlation of two inputs' pre-activations one layer later, C(c).

        C(c) = (sw^2 E[phi(u) phi(v)] + sb^2) / (sw^2 E[phi(u)^2] + sb^2),

    u and v normal with variance q and correlation c (Poole et al. 2016, arXiv:1606.05340). Its
    slope at c = 1 is chi_1. For ReLU, C(c) = (sqrt(1 - c^2) + (pi - arccos c) c) / pi.

    Args:
      activation: a name or an elementwise function of JAX arrays.
      correlation: c, from -1 to 1.
      q: variance of the pre-activations, positive.
      weight_variance: sw^2. Default: with the biases' that of `edge_of_chaos(activation, q)`.
      bias_variance: sb^2; 0 where only `weight_variance` is given.

    Returns:
      A float, by quadrature in two dimensions, to 1e-9 or better.

    Raises:
      UserError (a ValueError): an argument out of its range; as `edge_of_chaos` where it gives the
        variances.

    >>> round(correlation_map("relu", 0.5), 9)
    0.608997781
    """
    correlation = finite(correlation, "correlation")
    if not -1 <= correlation <= 1:
        raise UserError(f"correlation={correlation} must lie between -1 and 1.")
    if finite(q, "q") <= 0:
        raise UserError(f"q={q} must be positive.")
    if weight_variance is None:
        if bias_variance is not None:
            raise UserError(f"bias_variance={bias_variance} needs weight_variance beside it.")
        point = critical_point(activation, q)
        weight_variance, bias_variance = point.weight_variance, point.bias_variance
    weight_variance = not_negative(weight_variance, "weight_variance")
    bias_variance = not_negative(bias_variance or 0.0, "bias_variance")
    variance = weight_variance * second_moment(activation, q) + bias_variance
    if variance == 0:
        raise UserError(f"weight_variance={weight_variance} and no biases: every output is 0.")
    product = product_moment(activation, q, correlation)
    return (weight_variance * product + bias_variance) / variance
