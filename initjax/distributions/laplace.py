"""The Laplace law."""

import dataclasses
import math

import jax.numpy as jnp

from initjax.distributions.base import Distribution, random_sign_and_probability


@dataclasses.dataclass(frozen=True)
class Laplace(Distribution):
    """The Laplace law of unit scale: p(x) = exp(-|x|) / 2, variance 2, kurtosis 6."""

    @property
    def std(self):
        return math.sqrt(2.0)

    @property
    def kurtosis(self):
        return 6.0

    def log_prob(self, x):
        return -jnp.abs(x) - math.log(2)

    def cdf(self, x):
        tail = 0.5 * jnp.exp(-jnp.abs(x))
        return jnp.where(x > 0, 1 - tail, tail)

    def icdf(self, p):
        p = jnp.asarray(p)
        size = -jnp.log(2 * jnp.minimum(p, 1 - p))
        return jnp.where(p < 0.5, -size, size)

    def draw(self, key, shape, dtype, out_sharding):
        negative, v = random_sign_and_probability(key, shape, dtype, out_sharding)
        size = -jnp.log(v)
        return jnp.where(negative, -size, size)
