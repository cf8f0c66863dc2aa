"""Symmetric laws that fits find in trained weights, besides those of `tabulated`."""

import dataclasses
import functools
import math

import jax.numpy as jnp
import numpy as np
import scipy.special
from jax.scipy import special

from initjax.arguments import positive
from initjax.errors import UserError
from initjax.tabulated import SymmetricTabulated


@dataclasses.dataclass(frozen=True)
class Logistic(SymmetricTabulated):
    """The logistic law of unit scale: p(x) = e^-|x| / (1 + e^-|x|)^2; variance pi^2 / 3."""

    @property
    def std(self):
        return math.pi / math.sqrt(3)

    @property
    def kurtosis(self):
        return 4.2

    def log_prob(self, x):
        return -jnp.abs(x) - 2 * jnp.log1p(jnp.exp(-jnp.abs(x)))

    def cdf(self, x):
        return special.expit(x)

    def magnitude_isf(self, p):
        return np.log((2 - p) / p)

    def magnitude_ppf(self, p):
        return 2 * np.arctanh(p)


@dataclasses.dataclass(frozen=True)
class LogNormal(SymmetricTabulated):
    """A random sign and a log-normal size: ln|x| is normal of mean 0.

        p(x) = exp(-ln(|x|)^2 / (2 sigma^2)) / (2 |x| sigma sqrt(2 pi)); E|x|^k = e^(k^2 sigma^2/2)

    Args:
      sigma: standard deviation of ln|x|.
    """

    sigma: float = 1.0

    def __post_init__(self):
        object.__setattr__(self, "sigma", positive(self.sigma, "sigma"))

    @property
    def std(self):
        return math.exp(self.sigma**2)

    @property
    def kurtosis(self):
        return math.exp(4 * self.sigma**2)

    def log_prob(self, x):
        log_size = jnp.log(jnp.abs(x))
        normalizer = math.log(2 * self.sigma) + 0.5 * math.log(2 * math.pi)
        value = -0.5 * jnp.square(log_size / self.sigma) - log_size - normalizer
        return jnp.where(x == 0, -jnp.inf, value)

    def cdf(self, x):
        return 0.5 + 0.5 * jnp.sign(x) * special.ndtr(jnp.log(jnp.abs(x)) / self.sigma)

    def magnitude_isf(self, p):
        return np.exp(-self.sigma * scipy.special.ndtri(p))

    def magnitude_ppf(self, p):
        return np.exp(self.sigma * scipy.special.ndtri(p))


@dataclasses.dataclass(frozen=True)
class GeneralizedGamma(SymmetricTabulated):
    """p(x) = power / (2 Gamma(shape/power)) |x|^(shape-1) e^(-|x|^power) (Stacy 1962, both sides).

    shape = 1 is the generalized normal law, power = 1 the symmetric gamma law. |x|^power has the
    gamma law of shape / power; E|x|^k = Gamma((shape + k) / power) / Gamma(shape / power).
    """

    shape: float = 1.0
    power: float = 1.0

    def __post_init__(self):
        object.__setattr__(self, "shape", positive(self.shape, "shape"))
        object.__setattr__(self, "power", positive(self.power, "power"))

    def _moment(self, order):
        numerator = math.lgamma((self.shape + order) / self.power)
        return math.exp(numerator - math.lgamma(self.shape / self.power))

    @property
    def std(self):
        return math.sqrt(self._moment(2))

    @property
    def kurtosis(self):
        return self._moment(4) / self._moment(2) ** 2

    def log_prob(self, x):
        size = jnp.abs(x)
        normalizer = math.log(self.power / 2) - math.lgamma(self.shape / self.power)
        return normalizer + special.xlogy(self.shape - 1, size) - size**self.power

    def cdf(self, x):
        inside = special.gammainc(self.shape / self.power, jnp.abs(x) ** self.power)
        return 0.5 + 0.5 * jnp.sign(x) * inside

    def magnitude_isf(self, p):
        return scipy.special.gammainccinv(self.shape / self.power, p) ** (1 / self.power)

    def magnitude_ppf(self, p):
        return scipy.special.gammaincinv(self.shape / self.power, p) ** (1 / self.power)


@dataclasses.dataclass(frozen=True)
class NormalMixture(SymmetricTabulated):
    """With probability `weight` N(0, ratio^2), else N(0, 1).

    Args:
      ratio: standard deviation of the second component over that of the first.
      weight: share of the second component, in (0, 1).
    """

    ratio: float = 2.0
    weight: float = 0.3

    def __post_init__(self):
        object.__setattr__(self, "ratio", positive(self.ratio, "ratio"))
        object.__setattr__(self, "weight", positive(self.weight, "weight"))
        if self.weight >= 1:
            raise UserError(f"weight={self.weight} must be below 1.")

    @property
    def std(self):
        return math.sqrt(1 - self.weight + self.weight * self.ratio**2)

    @property
    def kurtosis(self):
        return 3 * (1 - self.weight + self.weight * self.ratio**4) / self.std**4

    def log_prob(self, x):
        normal = -0.5 * math.log(2 * math.pi)
        first = math.log1p(-self.weight) - 0.5 * jnp.square(x)
        second = math.log(self.weight / self.ratio) - 0.5 * jnp.square(x / self.ratio)
        return normal + jnp.logaddexp(first, second)

    def cdf(self, x):
        return (1 - self.weight) * special.ndtr(x) + self.weight * special.ndtr(x / self.ratio)

    @functools.cached_property
    def _grid(self):
        """(|x|, ln P(|W| > |x|), ln P(|W| <= |x|)), fine enough to interpolate."""
        least, most = min(1.0, self.ratio), max(1.0, self.ratio)
        x = np.geomspace(1e-18 * least, 40 * most, 200_001)
        z = x / np.array([[1.0], [self.ratio]]) / math.sqrt(2)
        shares = np.array([1 - self.weight, self.weight])
        above, below = shares @ scipy.special.erfc(z), shares @ scipy.special.erf(z)
        return np.log(x), np.log(np.maximum(above, 1e-300)), np.log(below)

    def magnitude_isf(self, p):
        log_size, log_above, _ = self._grid
        return np.exp(np.interp(-np.log(p), -log_above, log_size))

    def magnitude_ppf(self, p):
        log_size, _, log_below = self._grid
        return np.exp(np.interp(np.log(p), log_below, log_size))
