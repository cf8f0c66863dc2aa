"""The generalized gamma law, on both sides."""

import dataclasses
import math

import jax.numpy as jnp
import scipy  # and not scipy.special, which takes 0.2 s: it loads at its first use
from jax.scipy import special

from initjax.distributions.tabulated import SymmetricTabulated
from initjax.support.arguments import positive


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
