"""Gaussian moments of an activation for many variances at once, and for pairs of inputs.

`gaussian` is exact to 1e-13 for one variance; a network has one for every layer, example and
position. Here they come from its quadrature at Chebyshev points of log variance, between which
they are interpolated (to some 1e-6), and correlations from Hermite series.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from initjax.theory.gaussian import evaluator, nodes, panels

_TERMS = 64  # of the Hermite series; what is left of it is added as one term more
# Chebyshev points: these, and as many more for every factor e between the variances.
_POINTS, _MORE_POINTS = 4, 6


@dataclasses.dataclass(frozen=True)
class Moments:
    """Of x ~ N(0, q), for every q of an array of any shape.

    Attributes:
      mean: E[phi].
      second: E[phi^2].
      fourth: E[phi^4].
      slope: E[phi'^2].
      growth: d E[phi^2] / dq.
      series: Hermite coefficients a_k of phi(sqrt(q) z), [..., terms]:
        E[phi(u) phi(v)] = sum_k a_k(q_u) a_k(q_v) c^k.
      square_series: the same of phi^2.
    """

    mean: np.ndarray
    second: np.ndarray
    fourth: np.ndarray
    slope: np.ndarray
    growth: np.ndarray
    series: np.ndarray
    square_series: np.ndarray


def moments(activation: Callable[..., Any], q: np.ndarray) -> Moments:
    """`Moments` of an activation for every variance in `q`, all positive."""
    low, high = math.log(q.min()), math.log(q.max())
    if high - low < 1e-9:
        points = np.array([low])
    else:
        angles = (np.arange(_POINTS + math.ceil(_MORE_POINTS * (high - low))) + 0.5) * math.pi
        points = low + (high - low) * 0.5 * (1 - np.cos(angles / len(angles)))
    rows = np.stack([_row(activation, math.exp(point)) for point in points])
    if len(points) == 1:
        rows = np.broadcast_to(rows[0], (*q.shape, rows.shape[1]))
    else:
        flat = np.log(q.ravel())
        # SciPy multiplies its weights in a random order: a seed, or the last bits differ each time.
        from scipy import interpolate  # here: at import it would take 0.2 s of every user

        rows = interpolate.BarycentricInterpolator(points, rows, rng=0)(flat)
        rows = rows.reshape(*q.shape, -1)
    numbers = np.moveaxis(rows[..., :5], -1, 0)
    series = rows[..., 5 : 5 + _TERMS + 1]
    mean, second, fourth, slope, growth = numbers
    square_series = rows[..., 5 + _TERMS + 1 :]
    return Moments(mean, second, fourth, slope, growth, series, square_series)


def pair_moment(left: np.ndarray, right: np.ndarray, correlation: np.ndarray) -> np.ndarray:
    """E[f(u) f(v)] of all pairs from the series [A, terms] and [B, terms]: [A, B]."""
    total = np.zeros_like(correlation)
    for k in reversed(range(left.shape[-1])):  # Horner's scheme
        total = total * correlation + left[:, None, k] * right[None, :, k]
    return total


@functools.lru_cache(maxsize=4096)
def _row(activation, q) -> np.ndarray:
    std = math.sqrt(q)
    z, weights = (part.ravel() for part in nodes(panels(0.0, std)))
    value, slope = evaluator(activation, derivative=True)(std * z)
    squares = value**2
    numbers = [
        weights @ value,
        weights @ squares,
        weights @ squares**2,
        weights @ slope**2,
        weights @ (z * value * slope) / std,
    ]
    basis = _hermite(len(z), z.tobytes())
    series = [_coefficients(basis, weights, values) for values in (value, squares)]
    return np.concatenate([numbers, *series])


def _coefficients(basis, weights, values):
    """Hermite coefficients, and as the last one what is left of E[values^2]."""
    coefficients = basis @ (weights * values)
    rest = weights @ values**2 - coefficients @ coefficients
    return np.append(coefficients, math.sqrt(max(rest, 0.0)))


@functools.lru_cache(maxsize=64)
def _hermite(size, data) -> np.ndarray:
    """Normalized probabilists' Hermite polynomials at the points, [terms, points]."""
    z = np.frombuffer(data)
    rows = [np.ones(size), z]
    for k in range(1, _TERMS - 1):
        rows.append((z * rows[k] - math.sqrt(k) * rows[k - 1]) / math.sqrt(k + 1))
    return np.stack(rows)
