"""The law of a sample, such as a trained layer."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from initjax.distributions.base import Distribution
from initjax.distributions.laws import drawn
from initjax.distributions.tabulated import grid, interpolate, random_cell, with_differences
from initjax.support.arguments import finite
from initjax.support.errors import UserError
from initjax.support.types import Sharding

_EMPIRICAL_CELL_BITS = 3


@drawn
@dataclasses.dataclass(frozen=True)
class Empirical(Distribution):
    """The law with given quantiles, uniform between them: what `Empirical.fit` finds in a sample.

    Args:
      quantiles: of the probabilities `Empirical.probabilities()`, in rising order.
    """

    quantiles: tuple[float, ...] = tuple(float(q) for q in np.linspace(-1, 1, 401))

    @staticmethod
    def probabilities() -> np.ndarray:
        """The 401 probabilities of the quantiles: 8 an octave, from 2^-26 to 1/2 and back."""
        low = grid(np.float32, _EMPIRICAL_CELL_BITS)
        return np.concatenate([low, 1 - low[-2::-1]])

    @classmethod
    def fit(cls, samples: ArrayLike) -> "Empirical":
        """The quantiles of an array of weights, of any shape.

        >>> round(Empirical.fit(np.linspace(-1, 1, 10_001)).std, 3)
        0.577
        """
        values = np.asarray(samples, np.float64).ravel()
        if values.size < 2 or not np.isfinite(values).all():
            raise UserError(f"samples: {values.size} values, not all finite or fewer than 2.")
        return cls(tuple(np.quantile(values, cls.probabilities()).tolist()))

    def __post_init__(self) -> None:
        quantiles = tuple(finite(q, "quantiles") for q in self.quantiles)
        object.__setattr__(self, "quantiles", quantiles)
        expected = len(self.probabilities())
        if len(quantiles) != expected:
            raise UserError(f"quantiles has {len(quantiles)} values instead of {expected}.")
        if np.any(np.diff(quantiles) < 0) or quantiles[0] == quantiles[-1]:
            raise UserError("quantiles do not rise.")

    def _knots(self):
        """(probabilities, quantiles); what is beyond the outermost is given to them."""
        p = np.concatenate([[0.0], self.probabilities()[1:-1], [1.0]])
        return p, np.asarray(self.quantiles)

    def _raw_moment(self, order, center=0.0):
        """E[(w - center)^order] of the piecewise uniform law."""
        p, q = self._knots()
        mass, q = np.diff(p), q - center
        # The mean of t^order between a and b: sum of a^i b^(order-i) over order + 1.
        powers = sum(q[:-1] ** i * q[1:] ** (order - i) for i in range(order + 1)) / (order + 1)
        return float((mass * powers).sum())

    @functools.cached_property
    def _moments(self):
        mean = self._raw_moment(1)
        variance = self._raw_moment(2, mean)
        return mean, variance, self._raw_moment(4, mean)

    @property
    def mean(self) -> float:
        return self._moments[0]

    @property
    def std(self) -> float:
        return math.sqrt(self._moments[1])

    @property
    def kurtosis(self) -> float:
        return self._moments[2] / self._moments[1] ** 2

    def log_prob(self, x: ArrayLike) -> jax.Array:
        p, q = self._knots()
        with np.errstate(divide="ignore"):
            log_density = np.log(np.diff(p)) - np.log(np.diff(q))
        index = jnp.clip(jnp.searchsorted(q, x, side="right") - 1, 0, len(q) - 2)
        inside = (x >= q[0]) & (x <= q[-1])
        return jnp.where(inside, jnp.asarray(log_density)[index], -jnp.inf)

    def cdf(self, x: ArrayLike) -> jax.Array:
        p, q = self._knots()
        return jnp.interp(x, q, p, left=0.0, right=1.0)

    def icdf(self, p: ArrayLike) -> jax.Array:
        return jnp.interp(p, *self._knots())

    def draw(
        self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype, out_sharding: Sharding
    ) -> jax.Array:
        q = np.asarray(self.quantiles)
        half = len(q) // 2 + 1
        # Quantiles from below up to the median, and from above down to it.
        pairs = [with_differences(side[:half], dtype) for side in (q, q[::-1])]
        single = np.dtype(np.float32)
        bits, cell, position = random_cell(key, shape, single, out_sharding, _EMPIRICAL_CELL_BITS)
        cell = jnp.where((bits & 2).astype(bool), cell + half, cell)
        return interpolate(jnp.asarray(np.concatenate(pairs)), cell, position.astype(dtype))
