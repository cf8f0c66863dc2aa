"""A law some of whose weights are exactly 0: pruned layers."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from initjax.distributions.base import Distribution
from initjax.distributions.laws import drawn
from initjax.distributions.symmetric import Symmetric
from initjax.support.arguments import finite
from initjax.support.errors import UserError
from initjax.support.types import Sharding


@drawn
@dataclasses.dataclass(frozen=True)
class WithZeros(Distribution):
    """With probability `zeros` 0, else a weight of another law, which is symmetric around 0.

    The variance is (1 - zeros) times that law's, the kurtosis that law's over (1 - zeros).
    `log_prob` is that of the other law's weights; it is inf at 0, where there is no density.

    Args:
      distribution: of the weights that are not 0.
      zeros: the share of zeros, in [0, 1).

    Raises:
      UserError (a ValueError): a share that is none, or a law that is not symmetric.
    """

    distribution: Symmetric
    zeros: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "zeros", finite(self.zeros, "zeros"))
        if not 0 <= self.zeros < 1:
            raise UserError(f"zeros={self.zeros} must be a share in [0, 1).")
        if not isinstance(self.distribution, Symmetric):
            raise UserError(f"distribution={self.distribution!r:.200} must be a symmetric law.")

    @property
    def std(self) -> float:
        return math.sqrt(1 - self.zeros) * self.distribution.std

    @property
    def kurtosis(self) -> float:
        return self.distribution.kurtosis / (1 - self.zeros)

    def log_prob(self, x: ArrayLike) -> jax.Array:
        x = jnp.asarray(x)
        inside = math.log1p(-self.zeros) + self.distribution.log_prob(x)
        return jnp.where((x == 0) & (self.zeros > 0), jnp.inf, inside)

    def cdf(self, x: ArrayLike) -> jax.Array:
        x = jnp.asarray(x)
        return (1 - self.zeros) * self.distribution.cdf(x) + self.zeros * (x >= 0)

    def icdf(self, p: ArrayLike) -> jax.Array:
        p = jnp.asarray(p)
        rest = 1 - self.zeros
        outside = jnp.where(p < 0.5, p, 1 - p) / rest
        below = jnp.asarray(self.distribution.icdf(jnp.minimum(outside, 0.5)))
        return jnp.where(outside >= 0.5, 0.0, jnp.where(p < 0.5, below, -below))

    def draw(
        self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype, out_sharding: Sharding
    ) -> jax.Array:
        key_zero, key_law = jax.random.split(key)
        u = jax.random.uniform(key_zero, shape, dtype, out_sharding=out_sharding)
        drawn_ = self.distribution.draw(key_law, shape, dtype, out_sharding)
        return jnp.where(u < self.zeros, dtype.type(0), drawn_)
