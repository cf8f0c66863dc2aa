"""Power laws cut off at both ends: the law of NSPL."""

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from initjax.distributions.base import random_sign_and_probability
from initjax.distributions.family import Law
from initjax.distributions.laws import LAWS, drawn
from initjax.distributions.library import NUMPY, Library
from initjax.distributions.symmetric import Symmetric
from initjax.support.arguments import finite
from initjax.support.errors import UserError
from initjax.support.types import Sharding

# Below this, (alpha - 1) L is zero: float32 could not hold it. expm1 and log1p are exact above it.
_TINY_RATE = 1e-30


def log_h(s: Any, length: Any) -> Any:
    """log h(s, L), h(s, L) = (1 - e^(-s L)) / s and h(0, L) = L; L may be inf where s > 0.

    In float64, for numbers and NumPy arrays.
    """
    s, length = np.asarray(s, np.float64), np.asarray(length, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        z = np.where(s == 0, 0.0, np.abs(s) * length)
        ratio = np.where(z < 1e-300, length, -np.expm1(-z) / np.abs(s))
        return np.where(s < 0, z, 0.0) + np.log(ratio)


@drawn
@dataclasses.dataclass(frozen=True)
class SymmetricPowerLaw(Symmetric):
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
    examples: ClassVar[tuple[tuple[float, ...], ...]] = tuple(
        (alpha, ratio)
        for alpha in (-1.0, 0.5, 1 - 1e-8, 1.0, 1 + 1e-8, 2.5)
        for ratio in (1.5, 1000.0)
    )

    def __post_init__(self) -> None:
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
    def std(self) -> float:
        return math.exp(0.5 * self._log_moment(2))

    @property
    def kurtosis(self) -> float:
        return math.exp(self._log_moment(4) - 2 * self._log_moment(2))

    @property
    def domain(self) -> tuple[float, float]:
        return 1 / self.ratio, 1.0

    @staticmethod
    def log_density(lib: Library, x: Any, alpha: Any, ratio: Any, largest: Any = 1.0) -> Any:
        normalizer = log_h(1 - alpha, math.log(ratio))
        return -alpha * lib.np.log(x / largest) - math.log(largest) - normalizer

    @staticmethod
    def above(lib: Library, x: Any, alpha: Any, ratio: Any) -> Any:
        rate, length = abs(alpha - 1), math.log(ratio)
        distance = -lib.np.log(x)  # from the largest |w|; inf at 0
        if rate * length < _TINY_RATE:
            nearer = distance / length
        else:
            nearer = lib.np.expm1(-rate * distance) / math.expm1(-rate * length)
        if alpha > 1:
            nearer = nearer * lib.np.exp(-rate * (length - distance))
        return lib.np.clip(nearer, 0, 1)

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

    def icdf(self, p: ArrayLike) -> jax.Array:
        p = jnp.asarray(p)
        q = jnp.abs(2 * p - 1)  # P(|W| <= |w|)
        size = self._magnitude(1 - q if self.alpha > 1 else q)
        return jnp.where(p < 0.5, -size, size)

    def draw(
        self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype, out_sharding: Sharding
    ) -> jax.Array:
        negative, v = random_sign_and_probability(key, shape, dtype, out_sharding)
        size = self._magnitude(v)
        return jnp.where(negative, -size, size)


def _ratio(support):
    return support[1] / support[0]


def _make(support, parameters):
    return SymmetricPowerLaw(parameters["alpha"], _ratio(support))


def _power_start(sample):
    return 1 + 1 / max(sample.mean(lambda x: np.log(x / sample.lower[0])), 1e-6)


def _truncated_start(sample):
    """alpha = 1 + z / L: ln|w| has, from the end at a on, about the mean 1 / z or L - 1 / |z|."""
    length = math.log(sample.upper[-1] / sample.lower[0])
    mean = min(max(sample.mean(lambda x: np.log(x / sample.lower[0])) / length, 1e-9), 1 - 1e-9)
    z = [1 / mean, 12 * (0.5 - mean), -1 / (1 - mean)]
    return [*((1 + value / length,) for value in z), (0.0,), (1.0,), (2.0,)]


def _truncated_cdf(x, support, alpha):
    a, b = support
    length = np.log(np.clip(x, a, b) / a)
    # ln of the mass of [a, x] over that of [a, b], both as multiples of a^(1 - alpha).
    part = log_h(1 - alpha, np.maximum(length, 1e-300)) + (1 - alpha) * length
    whole = log_h(1 - alpha, math.log(b / a)) + (1 - alpha) * math.log(b / a)
    return np.where(length > 0, np.exp(part - whole), 0.0)


# What has no largest weight is drawn with that of the sample.
LAWS.add(
    "power_law",
    Law(
        {"alpha": "identity"},
        lambda x, support, alpha: (
            np.log(alpha - 1) - math.log(support[0]) - alpha * np.log(x / support[0])
        ),
        lambda x, support, alpha: -np.expm1((1 - alpha) * np.log(np.maximum(x / support[0], 1))),
        _power_start,
        _make,
        ends="a",
    ),
)
LAWS.add(
    "truncated_power_law",
    Law(
        {"alpha": "identity"},
        lambda x, support, alpha: SymmetricPowerLaw.log_density(
            NUMPY, x, alpha, _ratio(support), support[1]
        ),
        _truncated_cdf,
        _truncated_start,
        _make,
        ends="ab",
        contains=("uniform", "power_law"),
    ),
)
