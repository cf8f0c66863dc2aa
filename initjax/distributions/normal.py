"""The normal law."""

import dataclasses
import math

import jax
import numpy as np

from initjax.distributions.laws import fitted
from initjax.distributions.library import JAX
from initjax.distributions.symmetric import Symmetric

LOG_HALF_NORMAL = 0.5 * math.log(2 / math.pi)  # of the density of |w| at 0


@fitted("normal", lambda sample: (math.sqrt(sample.mean(np.square)),))
@dataclasses.dataclass(frozen=True)
class Normal(Symmetric):
    """The standard normal law: log p(x) = -x^2/2 - log(2 pi)/2."""

    @property
    def std(self):
        return 1.0

    @property
    def kurtosis(self):
        return 3.0

    @staticmethod
    def log_density(lib, x):
        return LOG_HALF_NORMAL - 0.5 * x * x

    @staticmethod
    def below(lib, x):
        return lib.special.erf(x / math.sqrt(2))

    @staticmethod
    def above(lib, x):
        return lib.special.erfc(x / math.sqrt(2))

    def icdf(self, p):
        return JAX.special.ndtri(p)

    def draw(self, key, shape, dtype, out_sharding):
        return jax.random.normal(key, shape, dtype, out_sharding=out_sharding)

    def draw_scaled(self, key, shape, dtype, multiplier, out_sharding):
        # Left to JAX's own initializer: whether the scale is merged into the sqrt(2) of the draw
        # differs between JAX versions, and with it the last bit.
        init = jax.nn.initializers.normal(multiplier, dtype)
        return init(key, shape, dtype, out_sharding)
