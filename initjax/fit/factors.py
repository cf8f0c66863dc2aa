"""Is a heavy tail a mixture of scales? Weights over one scale per position, input or output."""

from collections.abc import Sequence

import numpy as np

_ROUNDS = 100
_TOLERANCE = 1e-3  # of the mean squares, which are 1 after the division


def divide_by_scales(weights: np.ndarray, factors: Sequence[Sequence[int]]) -> np.ndarray:
    """The weights over a product of scales, each estimated from the weights themselves.

    Were w = s_1 ... s_k z with z ~ N(0, 1) and each s_j constant but along some axes, the most
    likely scales are those for which the mean of w^2 / (s_1 ... s_k)^2 is 1 for each value of each
    scale. They are found in turns, at most 100, until all means are 1 within 1e-3.

    What is divided by scales that were estimated from m weights each has lighter tails than before
    even if all scales are equal: normal weights have kurtosis 3 m / (m + 2) after one division, and
    weights of a heavy-tailed law lose more. Compare with normal weights of the same shape, where
    nothing but scales makes tails, and with the same weights in random order, where scales make
    none.

    Args:
      weights: [...] of any axes.
      factors: of each scale the axes along which it differs: `[(0,), (1, 2)]`. Axes that one scale
        has and another one too are allowed.

    Returns:
      float64[...], with 0 where the weights are 0.

    >>> w = np.random.default_rng(0).normal(size=(2000, 500)) * np.geomspace(.1, 10, 500)
    >>> kurtosis(w) > 8, abs(kurtosis(divide_by_scales(w, [(1,)])) - 3) < .05
    (True, True)
    """
    square = np.square(weights.astype(np.float64))
    for _ in range(_ROUNDS):
        worst = 0.0
        for axes in factors:
            others = tuple(axis for axis in range(square.ndim) if axis not in axes)
            mean = square.mean(others, keepdims=True)
            mean[mean == 0] = 1.0  # all of these weights are 0: there is nothing to divide
            square /= mean
            worst = max(worst, float(np.abs(mean - 1).max()))
        if worst < _TOLERANCE:
            break
    return np.copysign(np.sqrt(square), weights)


def kurtosis(weights: np.ndarray) -> float:
    """E[w^4] / E[w^2]^2, around 0: 3 is normal."""
    square = np.square(weights, dtype=np.float64)
    return float(np.square(square).mean() / square.mean() ** 2)
