"""The uniform law."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from initjax.distributions.base import Distribution, _polar


@dataclasses.dataclass(frozen=True)
class Uniform(Distribution):
    """The uniform law on [-1, 1]: p(x) = 1/2, variance 1/3. Complex samples fill a disk."""

    @property
    def std(self):
        return math.sqrt(1 / 3)

    @property
    def kurtosis(self):
        return 1.8

    def log_prob(self, x):
        return jnp.where(jnp.abs(x) <= 1, -math.log(2.0), -jnp.inf)

    def cdf(self, x):
        return jnp.clip(0.5 + 0.5 * jnp.asarray(x), 0, 1)

    def icdf(self, p):
        return 2 * jnp.asarray(p) - 1.0

    def draw(self, key, shape, dtype, out_sharding):
        return jax.random.uniform(key, shape, dtype, -1.0, out_sharding=out_sharding)

    def draw_complex(self, key, shape, dtype, out_sharding):
        key_modulus, key_angle = jax.random.split(key)
        u = jax.random.uniform(key_modulus, shape, dtype, out_sharding=out_sharding)
        return _polar(jnp.sqrt(2 * u) * self.std, key_angle, shape, dtype, out_sharding)

    def multiplier(self, variance):
        # sqrt(3 v), not sqrt(v) / sqrt(1/3): the same number but for its last bit, and this is the
        # last bit of jax.nn.initializers.
        return np.sqrt(variance.dtype.type(3) * variance)
