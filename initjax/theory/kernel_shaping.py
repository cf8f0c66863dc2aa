"""Activations made for deep networks without normalization and shortcuts: TAT and DKS.

Both follow the cosine c of two inputs from layer to layer, C(c), and the mean square q of one,
Q(q), as `initjax.theory.fixed_points` does, with weights of variance 1 / fan_in and no biases; they
change the activation, not the weights.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from initjax.support.arguments import count, finite
from initjax.support.caching import cached
from initjax.support.errors import UserError
from initjax.theory.activations import get_activation
from initjax.theory.gaussian import evaluator, integrate, name


@dataclasses.dataclass(frozen=True)
class ShapedActivation:
    """output_scale * (activation(input_scale * x + input_shift) + output_shift), elementwise."""

    activation: str | Callable[..., Any]
    input_scale: float
    input_shift: float
    output_scale: float
    output_shift: float

    def __call__(self, x: jax.Array) -> jax.Array:
        inner = get_activation(self.activation)(self.input_scale * x + self.input_shift)
        return self.output_scale * (inner + self.output_shift)


@dataclasses.dataclass(frozen=True)
class ScaledLeakyRelu:
    """sqrt(2 / (1 + slope^2)) * leaky ReLU, which keeps the mean square of its inputs."""

    slope: float

    def __call__(self, x: jax.Array) -> jax.Array:
        import jax.numpy as jnp  # the rest of this file is numbers

        scale = math.sqrt(2 / (1 + self.slope**2))
        return scale * jnp.where(x > 0, x, self.slope * x)


def leaky_relu_cosine(cosine: float, slope: float) -> float:
    """C(c) = c + (1 - a)^2 / (pi (1 + a^2)) (sqrt(1 - c^2) - c arccos c) of leaky ReLU."""
    share = (1 - slope) ** 2 / (math.pi * (1 + slope**2))
    return cosine + share * (math.sqrt(1 - cosine**2) - cosine * math.acos(cosine))


@cached
def tailored_slope(depth: int, eta: float = 0.9, shortcut_weight: float = 0.0) -> float:
    """The slope of leaky ReLU with which orthogonal inputs leave `depth` layers at the cosine eta.

    What `initjax.tat` explains, arguments and errors.
    """
    depth = count(depth, "depth")
    eta = _between_0_and_1(eta, "eta")
    shortcut = finite(shortcut_weight, "shortcut_weight") ** 2
    if not 0 <= shortcut < 1:
        raise UserError(f"shortcut_weight={shortcut_weight} must lie in [0, 1).")

    def excess(slope):
        cosine = 0.0
        for _ in range(depth):
            branch = leaky_relu_cosine(cosine, slope)
            cosine = min(shortcut * cosine + (1 - shortcut) * branch, 1.0)
        return cosine - eta

    if excess(0.0) <= 0:
        return 0.0  # ReLU itself does no more
    from scipy import optimize  # here: at import it would take 0.2 s of every user

    return optimize.root_scalar(excess, bracket=(0.0, 1.0), xtol=1e-14).root


def _between_0_and_1(value, what):
    value = finite(value, what)
    if not 0 < value < 1:
        raise UserError(f"{what}={value} must lie between 0 and 1.")
    return value


# Where the solver starts, input scale and shift, one after the other.
_STARTS = [(a, b) for a in (0.5, 0.1, 1.0) for b in (0.0, 0.5, -0.5, 1.5)]
_TOLERANCE = 1e-9


@cached
def shaped_activation(
    activation: str | Callable[..., Any], depth: int, zeta: float = 1.5
) -> ShapedActivation:
    """The activation of Deep Kernel Shaping: what `initjax.dks` explains, arguments and errors."""
    depth = count(depth, "depth")
    if finite(zeta, "zeta") <= 1:
        raise UserError(f"zeta={zeta} must exceed 1: a slope of 1 is that of linear layers.")
    evaluate = evaluator(get_activation(activation), derivative=True)
    slope = zeta ** (1 / depth)  # of each of `depth` equal layers

    def shape(scale, shift):
        """(output scale, output shift), and what is left of Q'(1) = 1 and C'(1) = slope."""

        def integrand(x):
            value, derivative = evaluate(x)
            z = (x - shift) / scale
            return np.stack(
                [value, value**2, derivative**2, z * derivative, z * value * derivative]
            )

        mean, square, slopes, growth_0, growth_1 = integrate(
            integrand, shift, scale, name(activation)
        )
        variance = square - mean**2
        q_slope = scale * (growth_1 - mean * growth_0) / variance
        c_slope = scale**2 * slopes / variance
        return (1 / math.sqrt(variance), -mean), (q_slope - 1, c_slope - slope)

    from scipy import optimize  # here: at import it would take 0.2 s of every user

    def residuals(x):
        return shape(math.exp(x[0]), x[1])[1]

    for scale, shift in _STARTS:
        try:
            with np.errstate(all="ignore"):
                found = optimize.root(residuals, (math.log(scale), shift), tol=1e-13)
            left = residuals(found.x)
        except (ValueError, ArithmeticError):  # UserError too: it left where numbers are finite
            continue
        if max(map(abs, left)) < _TOLERANCE:
            scale, shift = math.exp(found.x[0]), float(found.x[1])
            output_scale, output_shift = shape(scale, shift)[0]
            return ShapedActivation(activation, scale, shift, output_scale, float(output_shift))
    raise UserError(
        f"activation={name(activation)}: no scales and shifts with zeta={zeta} at depth={depth}"
        " were found. DKS is for smooth activations; TAT (`initjax.tat`) for leaky ReLU."
    )
