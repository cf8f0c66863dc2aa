"""Powers of gamma variables: their distribution where the variable itself underflows.

Sizes |w| for which |w|^power has a gamma law of shape k. Towards 0, P(|W| <= x) tends to
x^(k power) / Gamma(k + 1): of k = 1/1000 and power = 1000, half of the law lies below x = .5, where
x^1000 is 0 in float64.
"""

from typing import Any

import numpy as np

from initjax.distributions.library import NUMPY, Library

_SMALL = 1e-30  # of x^power: the next term of P is that much smaller


def gamma_below(lib: Library, x: Any, shape: Any, power: Any) -> Any:
    """P(|W| <= x), |W|^power of the gamma law of `shape`."""
    y = x**power
    near_zero = x ** (shape * power) / np.exp(NUMPY.special.gammaln(shape + 1))
    return lib.np.where(y < _SMALL, near_zero, lib.special.gammainc(shape, y))


def gamma_above(lib: Library, x: Any, shape: Any, power: Any) -> Any:
    """P(|W| > x)."""
    y = x**power
    near_zero = x ** (shape * power) / np.exp(NUMPY.special.gammaln(shape + 1))
    return lib.np.where(y < _SMALL, 1 - near_zero, lib.special.gammaincc(shape, y))


def gamma_ppf(p: np.ndarray, shape: float, power: float) -> np.ndarray:
    """The x with P(|W| <= x) = p."""
    y = NUMPY.special.gammaincinv(shape, p)
    with np.errstate(all="ignore"):
        log_near_zero = (np.log(p) + NUMPY.special.gammaln(shape + 1)) / (shape * power)
        return np.where(y < 1e-200, np.exp(log_near_zero), y ** (1 / power))


def gamma_isf(p: np.ndarray, shape: float, power: float) -> np.ndarray:
    """The x with P(|W| > x) = p."""
    y = NUMPY.special.gammainccinv(shape, p)
    return np.where(y < 1e-200, gamma_ppf(1 - np.asarray(p), shape, power), y ** (1 / power))
