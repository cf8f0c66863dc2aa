"""Gaussian fields through pooling, and values through softmax attention, at initialization."""

import math
from collections.abc import Callable

import numpy as np

from initjax.support.errors import UserError
from initjax.theory.gaussian import evaluator

_NORMALS = np.polynomial.hermite_e.hermegauss(64)
_GRID = np.linspace(-9.0, 9.0, 1201)


def max_moments(
    activation: Callable, q: float, number: float, correlation: float
) -> tuple[float, float, float]:
    """(E[phi], E[phi^2], E[phi'^2]) at the largest of `number` Gaussians N(0, q).

    Every two of them have one correlation c >= 0,

        z_i = sqrt(q) (sqrt(c) s + sqrt(1 - c) e_i),     s, e_i independent N(0, 1),

    so that their largest is that of the e_i, whose law is F^number. For a phi that does not fall,
    this is the maximum pooling of phi(z).

    >>> import jax
    >>> mean, second, slope = max_moments(jax.nn.relu, 1.0, 4, 0.0)
    >>> round(slope, 4)  # one of four is positive
    0.9375
    """
    cumulative = 0.5 * (1 + np.vectorize(math.erf)(_GRID / math.sqrt(2)))
    weights = np.diff(cumulative**number)  # of the middles
    middles = (_GRID[1:] + _GRID[:-1]) / 2
    s, normal = _NORMALS
    c = min(max(correlation, 0.0), 1.0)
    z = math.sqrt(q) * (math.sqrt(c) * s[:, None] + math.sqrt(1 - c) * middles)
    value, slope = evaluator(activation, derivative=True)(z)
    normal = normal / normal.sum()
    mean, second, slope = (float(normal @ f @ weights) for f in (value, value**2, slope**2))
    return mean, second, slope


def attention_weight(score_variance: float, number: int) -> float:
    """E[sum_i p_i^2] of p = softmax(s), s_i independent N(0, score_variance), `number` of them.

    1 / number where all scores are alike (uniform attention), 1 where one outweighs all others.
    With w = e^s it is

        number int_0^inf t E[w^2 e^(-t w)] E[e^(-t w)]^(number - 1) dt.

    Raises:
      UserError (a ValueError): a number below 1.

    >>> attention_weight(0.0, 8)
    0.125
    >>> round(attention_weight(1.0, 1000) * 1000 / math.e, 2)  # e^v / number of many keys
    0.99
    """
    if number < 1:
        raise UserError(f"number={number} must be at least 1.")
    if score_variance <= 1e-12 or number == 1:
        return 1 / number
    sd = math.sqrt(score_variance)
    scores = _GRID[::4] * sd
    normal = np.exp(-0.5 * (scores / sd) ** 2)
    normal /= normal.sum()
    logs = np.linspace(-9 * sd - 40, 9 * sd + 8, 3001)  # of t; the scores' largest ends it
    products = np.exp(np.clip(logs[:, None] + scores, -700, 40))
    decay = np.exp(-products)
    first = decay @ normal
    second = (decay * products**2) @ normal  # t^2 E[w^2 e^(-t w)], and dt = t d log t
    total = np.trapezoid(second * first ** (number - 1), logs)
    return float(min(max(number * total, 1 / number), 1.0))


def attended_second_moment(
    q: float, correlation: float, score_variance: float, number: int
) -> float:
    """E[(sum_b p_b v_b)^2] of values of second moment q, every two of one correlation c.

        q (c + (1 - c) E[sum_b p_b^2]),

    the scores being independent of each other and of the values. With all scores alike (uniform
    attention: a mean of the values) it is q c + q (1 - c) / number.
    """
    return q * (correlation + (1 - correlation) * attention_weight(score_variance, number))
