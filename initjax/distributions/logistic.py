"""The logistic law."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from jax.scipy import special

from initjax.distributions.tabulated import SymmetricTabulated


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
