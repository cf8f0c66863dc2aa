"""The Laplace law."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from initjax.distributions.base import random_sign_and_probability
from initjax.distributions.laws import fitted
from initjax.distributions.library import Library
from initjax.distributions.symmetric import Symmetric
from initjax.support.types import Sharding


@fitted("laplace", lambda sample: (sample.mean(lambda x: x),))
@dataclasses.dataclass(frozen=True)
class Laplace(Symmetric):
    """The Laplace law of unit scale: p(x) = exp(-|x|) / 2, variance 2, kurtosis 6."""

    @property
    def std(self) -> float:
        return math.sqrt(2.0)

    @property
    def kurtosis(self) -> float:
        return 6.0

    @staticmethod
    def log_density(lib: Library, x: Any) -> Any:
        return -x

    @staticmethod
    def below(lib: Library, x: Any) -> Any:
        return -lib.np.expm1(-x)

    @staticmethod
    def above(lib: Library, x: Any) -> Any:
        return lib.np.exp(-x)

    def icdf(self, p: ArrayLike) -> jax.Array:
        p = jnp.asarray(p)
        size = -jnp.log(2 * jnp.minimum(p, 1 - p))
        return jnp.where(p < 0.5, -size, size)

    def draw(
        self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype, out_sharding: Sharding
    ) -> jax.Array:
        negative, v = random_sign_and_probability(key, shape, dtype, out_sharding)
        size = -jnp.log(v)
        return jnp.where(negative, -size, size)
