"""The normal law."""

import dataclasses
import math
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike

from initjax.distributions.laws import fitted
from initjax.distributions.library import JAX, Library
from initjax.distributions.symmetric import Symmetric
from initjax.support.types import Sharding

LOG_HALF_NORMAL = 0.5 * math.log(2 / math.pi)  # of the density of |w| at 0


@fitted("normal", lambda sample: (math.sqrt(sample.mean(np.square)),))
@dataclasses.dataclass(frozen=True)
class Normal(Symmetric):
    """The standard normal law: log p(x) = -x^2/2 - log(2 pi)/2."""

    @property
    def std(self) -> float:
        return 1.0

    @property
    def kurtosis(self) -> float:
        return 3.0

    @staticmethod
    def log_density(lib: Library, x: Any) -> Any:
        return LOG_HALF_NORMAL - 0.5 * x * x

    @staticmethod
    def below(lib: Library, x: Any) -> Any:
        return lib.special.erf(x / math.sqrt(2))

    @staticmethod
    def above(lib: Library, x: Any) -> Any:
        return lib.special.erfc(x / math.sqrt(2))

    def icdf(self, p: ArrayLike) -> jax.Array:
        return JAX.special.ndtri(p)

    def draw(
        self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype, out_sharding: Sharding
    ) -> jax.Array:
        return jax.random.normal(key, shape, dtype, out_sharding=out_sharding)

    def draw_scaled(
        self,
        key: jax.Array,
        shape: tuple[int, ...],
        dtype: np.dtype,
        multiplier: Any,
        out_sharding: Sharding,
    ) -> jax.Array:
        # Left to JAX's own initializer: whether the scale is merged into the sqrt(2) of the draw
        # differs between JAX versions, and with it the last bit.
        init = jax.nn.initializers.normal(multiplier, dtype)
        return init(key, shape, dtype, out_sharding)
