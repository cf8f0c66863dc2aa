"""Power laws cut off at both ends: the law of NSPL."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np

from initjax.distributions.base import Distribution, random_sign_and_probability
from initjax.support.arguments import finite
from initjax.support.errors import UserError

# Below this, (alpha - 1) L is zero: float32 could not hold it. expm1 and log1p are exact above it.
_TINY_RATE = 1e-30


def log_h(s, length):
    """log h(s, L), h(s, L) = (1 - e^(-s L)) / s and h(0, L) = L; L may be inf where s > 0.

    In float64, for numbers and NumPy arrays.
    """
    s, length = np.asarray(s, np.float64), np.asarray(length, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        z = np.where(s == 0, 0.0, np.abs(s) * length)
        ratio = np.where(z < 1e-300, length, -np.expm1(-z) / np.abs(s))
        return np.where(s < 0, z, 0.0) + np.log(ratio)


@dataclasses.dataclass(frozen=True)
class SymmetricPowerLaw(Distribution):
    """The symmetric power law with both ends cut off, the law of NSPL.

        p(w) = |w|^-alpha / (2 h(1 - alpha, L)),   1/ratio <= |w| <= 1,   L = ln(ratio),

    with h(s, L) = (1 - e^(-s L)) / s and h(0, L) = L. Its variance is h(3-alpha, L) / h(1-alpha, L)
    and its kurtosis h(5-alpha) h(1-alpha) / h(3-alpha)^2, for every real alpha: no exponent is a
    special case. ln|w| is a truncated exponential variable, which is how it is sampled: one random
    word gives the sign and the quantile, and the inverse CDF has no cancellation near alpha = 1
    (the textbook form (a^B + u (b^B - a^B))^(1/B) divides by zero there).

    The law is our specification of that in Xing, Sun, Shao & Sui, "Research on Weight
    Initialization Method in Deep Learning", Computer Engineering 48(7):104-113, 2022 (method
    patented as CN113255883B), whose exponent and cut-offs are not published in its abstract.

    Args:
      alpha: the exponent, any real number; 0 is the uniform law on the two sides.
      ratio: largest over smallest |w|, more than 1; inf is allowed for alpha < 1.
    """

    alpha: float = 1.0
    ratio: float = 100.0

    def __post_init__(self):
        object.__setattr__(self, "alpha", finite(self.alpha, "alpha"))
        if self.ratio != math.inf or self.alpha >= 1:
            object.__setattr__(self, "ratio", finite(self.ratio, "ratio"))
        if not self.ratio > 1:
            raise UserError(f"ratio={self.ratio} must be more than 1: it is max|w| / min|w|.")

    @property
    def _length(self) -> float:
        return math.log(self.ratio)

    def _log_moment(self, order: int) -> float:
        """log E|w|^order."""
        upper, lower = (log_h(k + 1 - self.alpha, self._length) for k in (order, 0))
        return float(upper - lower)

    @property
    def std(self):
        return math.exp(0.5 * self._log_moment(2))

    @property
    def kurtosis(self):
        return math.exp(self._log_moment(4) - 2 * self._log_moment(2))

    def log_prob(self, x):
        size = jnp.abs(x)
        inside = (size >= 1 / self.ratio) & (size <= 1)
        log_size = jnp.log(jnp.where(inside, size, 1.0))
        normalizer = math.log(2) + float(log_h(1 - self.alpha, self._length))
        return jnp.where(inside, -self.alpha * log_size - normalizer, -jnp.inf)

    def _log_distance(self, v):
        """ln(|w| / anchor) without its sign, from the probability v of lying farther from it.

        The anchor is the end at which the density of ln|w| is highest: 1/ratio for alpha > 1, else
        1. alpha and ratio are static, so only one of the three forms is compiled.
        """
        rate, length = abs(self.alpha - 1), self._length
        z = rate * length
        if z < _TINY_RATE:
            return (1 - v) * length
        if z < 1:
            return -jnp.log1p((1 - v) * math.expm1(-z)) / rate
        return -jnp.log(v + (1 - v) * math.exp(-z)) / rate

    def _magnitude(self, v):
        """|w| from the probability v of lying farther from the anchor than |w|."""
        distance = self._log_distance(v)
        return jnp.exp(distance) / self.ratio if self.alpha > 1 else jnp.exp(-distance)

    def cdf(self, x):
        size = jnp.abs(x)
        inside = jnp.clip(size, 1 / self.ratio, 1.0)
        rate, length = abs(self.alpha - 1), self._length
        if self.alpha > 1:
            distance = jnp.log(inside) + length  # from the smallest |w|
        else:
            distance = -jnp.log(inside)  # from the largest |w|; inf at 0
        if rate * length < _TINY_RATE:
            nearer = distance / length
        else:
            nearer = jnp.expm1(-rate * distance) / math.expm1(-rate * length)
        # P(|w| <= size): nearer to the smallest |w|, or farther from the largest.
        below = nearer if self.alpha > 1 else 1 - nearer
        return 0.5 + 0.5 * jnp.sign(x) * jnp.clip(below, 0, 1)

    def icdf(self, p):
        p = jnp.asarray(p)
        q = jnp.abs(2 * p - 1)  # P(|W| <= |w|)
        size = self._magnitude(1 - q if self.alpha > 1 else q)
        return jnp.where(p < 0.5, -size, size)

    def draw(self, key, shape, dtype, out_sharding):
        negative, v = random_sign_and_probability(key, shape, dtype, out_sharding)
        size = self._magnitude(v)
        return jnp.where(negative, -size, size)
