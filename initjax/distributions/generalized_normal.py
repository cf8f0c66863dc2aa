"""The generalized normal law."""

import dataclasses
import math

import jax.numpy as jnp
import scipy  # and not scipy.special, which takes 0.2 s: it loads at its first use
from jax.scipy import special

from initjax.distributions.tabulated import SymmetricTabulated
from initjax.support.arguments import positive


@dataclasses.dataclass(frozen=True)
class GeneralizedNormal(SymmetricTabulated):
    """p(x) = power / (2 Gamma(1/power)) exp(-|x|^power); variance Gamma(3/power) / Gamma(1/power).

    power = 2 is normal (of variance 1/2), 1 is Laplace; |x|^power has a gamma law.
    """

    power: float = 1.5

    def __post_init__(self):
        object.__setattr__(self, "power", positive(self.power, "power"))

    def _moment(self, order):
        return math.exp(math.lgamma((order + 1) / self.power) - math.lgamma(1 / self.power))

    @property
    def std(self):
        return math.sqrt(self._moment(2))

    @property
    def kurtosis(self):
        return self._moment(4) / self._moment(2) ** 2

    def log_prob(self, x):
        normalizer = math.log(self.power / 2) - math.lgamma(1 / self.power)
        return normalizer - jnp.abs(x) ** self.power

    def cdf(self, x):
        inside = special.gammainc(1 / self.power, jnp.abs(x) ** self.power)
        return 0.5 + 0.5 * jnp.sign(x) * inside

    def magnitude_isf(self, p):
        return scipy.special.gammainccinv(1 / self.power, p) ** (1 / self.power)

    def magnitude_ppf(self, p):
        return scipy.special.gammaincinv(1 / self.power, p) ** (1 / self.power)
