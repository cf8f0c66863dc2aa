"""Laws of a random sign and a size |w|: one formula each, for NumPy and for jax.numpy."""

import abc
import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from initjax.distributions.base import Distribution
from initjax.distributions.library import JAX, Library


@dataclasses.dataclass(frozen=True)
class Symmetric(Distribution):
    """A symmetric law, given by formulas for the size |w|.

    The formulas are static: they take the library that evaluates them (`NUMPY` or `JAX`), sizes x
    >= 0, and the `shapes`, which are floats, or for `NUMPY` arrays that broadcast with x.
    `log_prob` and `cdf` follow from them, with their own sign and domain.
    """

    domain: ClassVar[tuple[float, float]] = (0.0, math.inf)  # the least and the largest |w|

    @property
    def shapes(self) -> tuple[float, ...]:
        """What the formulas take after x: the fields."""
        return dataclasses.astuple(self)

    @staticmethod
    @abc.abstractmethod
    def log_density(lib: Library, x: Any, *shapes: Any) -> Any:
        """Natural logarithm of the density of |w| at x, inside the domain."""

    @staticmethod
    def below(lib: Library, x: Any, *shapes: Any) -> Any:
        """P(|w| <= x), without cancellation at small x: a law that is fitted needs it."""
        raise NotImplementedError

    @staticmethod
    @abc.abstractmethod
    def above(lib: Library, x: Any, *shapes: Any) -> Any:
        """P(|w| > x), without cancellation at large x."""

    # NumPy's float64 of the parameters would make the results float64 under x64: cast back.

    def log_prob(self, x: ArrayLike) -> jax.Array:
        x = _floating(x)
        size, (low, high) = jnp.abs(x), self.domain
        outside = (size < low) | (size > high) | jnp.isinf(size)
        value = self.log_density(JAX, jnp.where(outside, 1.0, size), *self.shapes) - math.log(2)
        return jnp.where(outside, -jnp.inf, value).astype(x.dtype)

    def cdf(self, x: ArrayLike) -> jax.Array:
        x = _floating(x)
        size, (low, high) = jnp.abs(x), self.domain
        tail = 0.5 * self.above(JAX, jnp.clip(size, low, high), *self.shapes)
        tail = jnp.where(size <= low, 0.5, tail)
        return jnp.where(x > 0, 1 - tail, tail).astype(x.dtype)


def _floating(x):
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(float)
