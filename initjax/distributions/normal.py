"""The normal law."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax.scipy import special

from initjax.distributions.base import Distribution


@dataclasses.dataclass(frozen=True)
class Normal(Distribution):
    """The standard normal law: log p(x) = -x^2/2 - log(2 pi)/2."""

    @property
    def std(self):
        return 1.0

    @property
    def kurtosis(self):
        return 3.0

    def log_prob(self, x):
        return -0.5 * jnp.square(x) - 0.5 * math.log(2 * math.pi)

    def cdf(self, x):
        return special.ndtr(x)

    def icdf(self, p):
        return special.ndtri(p)

    def draw(self, key, shape, dtype, out_sharding):
        return jax.random.normal(key, shape, dtype, out_sharding=out_sharding)

    def draw_scaled(self, key, shape, dtype, multiplier, out_sharding):
        # Left to JAX's own initializer: whether the scale is merged into the sqrt(2) of the draw
        # differs between JAX versions, and with it the last bit.
        init = jax.nn.initializers.normal(multiplier, dtype)
        return init(key, shape, dtype, out_sharding)
