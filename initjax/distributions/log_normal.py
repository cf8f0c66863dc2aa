"""The log-normal law with a random sign."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import scipy  # and not scipy.special, which takes 0.2 s: it loads at its first use
from jax.scipy import special

from initjax.distributions.tabulated import SymmetricTabulated
from initjax.support.arguments import positive


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
