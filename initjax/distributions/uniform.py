"""The uniform law."""

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from initjax.distributions.base import polar
from initjax.distributions.family import Law
from initjax.distributions.laws import LAWS, drawn
from initjax.distributions.library import Library
from initjax.distributions.symmetric import Symmetric
from initjax.support.types import Sharding


@drawn
@dataclasses.dataclass(frozen=True)
class Uniform(Symmetric):
    """The uniform law on [-1, 1]: p(x) = 1/2, variance 1/3. Complex samples fill a disk."""

    domain: ClassVar[tuple[float, float]] = (0.0, 1.0)

    @property
    def std(self) -> float:
        return math.sqrt(1 / 3)

    @property
    def kurtosis(self) -> float:
        return 1.8

    @staticmethod
    def log_density(lib: Library, x: Any) -> Any:
        return 0.0 * x

    @staticmethod
    def below(lib: Library, x: Any) -> Any:
        return x

    @staticmethod
    def above(lib: Library, x: Any) -> Any:
        return 1 - x

    def icdf(self, p: ArrayLike) -> jax.Array:
        return 2 * jnp.asarray(p) - 1.0

    def draw(
        self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype, out_sharding: Sharding
    ) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -1.0, out_sharding=out_sharding)

    def draw_complex(
        self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype, out_sharding: Sharding
    ) -> jax.Array:
        key_modulus, key_angle = jax.random.split(key)
        u = jax.random.uniform(key_modulus, shape, dtype, out_sharding=out_sharding)
        return polar(jnp.sqrt(2 * u) * self.std, key_angle, shape, dtype, out_sharding)

    def multiplier(self, variance: np.floating) -> np.floating:
        # sqrt(3 v), not sqrt(v) / sqrt(1/3): the same number but for its last bit, and this is the
        # last bit of jax.nn.initializers.
        return np.sqrt(variance.dtype.type(3) * variance)


# On [-b, b], b being the largest |w|: nothing is left to search.
LAWS.add(
    "uniform",
    Law(
        {},
        lambda x, support: np.zeros_like(x) - math.log(support[1]),
        lambda x, support: np.clip(x / support[1], 0, 1),
        lambda sample: (),
        lambda support, parameters: Uniform(),
        ends="b",
        above=lambda x, support: 1 - x / support[1],
    ),
)
