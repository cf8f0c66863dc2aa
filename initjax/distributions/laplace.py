"""The Laplace law."""

import dataclasses
import math

import jax.numpy as jnp

from initjax.distributions.base import random_sign_and_probability
from initjax.distributions.laws import fitted
from initjax.distributions.symmetric import Symmetric


@fitted("laplace", lambda sample: (sample.mean(lambda x: x),))
@dataclasses.dataclass(frozen=True)
class Laplace(Symmetric):
    """The Laplace law of unit scale: p(x) = exp(-|x|) / 2, variance 2, kurtosis 6."""

    @property
    def std(self):
        return math.sqrt(2.0)

    @property
    def kurtosis(self):
        return 6.0

    @staticmethod
    def log_density(lib, x):
        return -x

    @staticmethod
    def below(lib, x):
        return -lib.np.expm1(-x)

    @staticmethod
    def above(lib, x):
        return lib.np.exp(-x)

    def icdf(self, p):
        p = jnp.asarray(p)
        size = -jnp.log(2 * jnp.minimum(p, 1 - p))
        return jnp.where(p < 0.5, -size, size)

    def draw(self, key, shape, dtype, out_sharding):
        negative, v = random_sign_and_probability(key, shape, dtype, out_sharding)
        size = -jnp.log(v)
        return jnp.where(negative, -size, size)
