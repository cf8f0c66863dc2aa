"""Laws without a closed inverse CDF, sampled from a quantile table that the float bits index.

A probability p in (0, 1/2] is a float: its exponent and leading mantissa bits are the number of a
table cell, the other mantissa bits the position in the cell. There is no search, one gather, and
the far tail is resolved as well as the body, since cells halve with p. A symmetric law has a table
of |w| (or ln|w|) at P(|W| > |w|) = p and one at P(|W| <= |w|) = p.
"""

import abc
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from initjax.distributions.symmetric import Symmetric
from initjax.support.types import Sharding

_CELL_BITS = 6  # 64 cells an octave: sampled probabilities are exact to 2e-5
_LINEAR_ERROR = 1.5e-5  # largest error in probability for which |w| is interpolated, not ln|w|


def grid(dtype: DTypeLike, cell_bits: int) -> np.ndarray:
    """The cells' edges, from the smallest probability that is drawn to 1/2."""
    digits = 24 if dtype == np.float32 else 53
    exponents = np.arange(-digits - 2, -1)
    fractions = 1 + np.arange(2**cell_bits) / 2**cell_bits
    edges = np.ldexp(fractions[None, :], exponents[:, None]).ravel()
    return np.append(edges, 0.5)


def random_cell(
    key: jax.Array, shape: tuple[int, ...], dtype: np.dtype, out_sharding: Sharding, cell_bits: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(two random bits, cell number, position in the cell) of a random p in (0, 1/2]."""
    if dtype == np.float32:
        word, integer, digits, mantissa = np.uint32, np.int32, 24, 23
    else:
        word, integer, digits, mantissa = np.uint64, np.int64, 53, 52
    bits = jax.random.bits(key, shape, word, out_sharding=out_sharding)
    shift = word(8 * word().itemsize - digits)
    p = ((bits >> shift).astype(dtype) + dtype.type(0.5)) * dtype.type(2.0 ** -(digits + 1))
    pattern = jax.lax.bitcast_convert_type(p, integer)
    rest = mantissa - cell_bits
    first = np.asarray(2.0 ** -(digits + 2), dtype).view(integer) >> rest
    cell = (pattern >> rest) - integer(first)
    position = (pattern & integer(2**rest - 1)).astype(dtype) * dtype.type(2.0**-rest)
    return bits & word(3), cell, position


def interpolate(table: jax.Array, cell: jax.Array, position: jax.Array) -> jax.Array:
    """Linear interpolation in a table of (value, difference to the next)."""
    # Cells are in range by construction, which the compiler cannot know.
    pair = table.at[cell].get(mode="promise_in_bounds")
    return pair[..., 0] + position * pair[..., 1]


def with_differences(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return np.stack([values, np.append(np.diff(values), 0.0)], axis=-1).astype(dtype)


@dataclasses.dataclass(frozen=True)
class SymmetricTabulated(Symmetric):
    """Base of symmetric laws that are given by the quantiles of |w|, in float64 on the host."""

    @abc.abstractmethod
    def magnitude_isf(self, p: np.ndarray) -> np.ndarray:
        """|w| with P(|W| > |w|) = p."""

    @abc.abstractmethod
    def magnitude_ppf(self, p: np.ndarray) -> np.ndarray:
        """|w| with P(|W| <= |w|) = p."""

    @functools.lru_cache(maxsize=64)  # noqa: B019  laws are small values; few are ever made
    def _table(self, dtype) -> tuple[np.ndarray, bool]:
        """([2 * cells, 2], logarithmic): |w| or ln|w|, and its difference to the next.

        By the upper, then by the lower tail. |w| itself where it is linear enough within the cells,
        which saves the exponential; ln|w| where a power of p changes too fast for that.
        """
        edges = grid(dtype, _CELL_BITS)
        middles = 0.5 * (edges[:-1] + edges[1:])
        tables, error = [], 0.0
        for quantile in (self.magnitude_isf, self.magnitude_ppf):
            values = np.maximum(quantile(edges), 1e-300)
            rise = np.diff(values)
            bend = np.abs(0.5 * (values[:-1] + values[1:]) - quantile(middles))
            # In probability: what is sampled at a middle, over the slope of the cell.
            cells = np.diff(edges) * bend / np.maximum(np.abs(rise), 1e-300)
            error = max(error, np.max(cells, where=rise != 0, initial=0.0))
            tables.append(values)
        logarithmic = bool(error > _LINEAR_ERROR)
        if logarithmic:
            tables = [np.log(values) for values in tables]
        return np.concatenate([with_differences(t, dtype) for t in tables]), logarithmic

    def draw(
        self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype, out_sharding: Sharding
    ) -> jax.Array:
        table, logarithmic = self._table(dtype)
        bits, cell, position = random_cell(key, shape, dtype, out_sharding, _CELL_BITS)
        cell = jnp.where((bits & 2).astype(bool), cell + len(table) // 2, cell)
        size = interpolate(jnp.asarray(table), cell, position)
        size = jnp.exp(size) if logarithmic else size
        return jnp.where((bits & 1).astype(bool), -size, size)

    def icdf(self, p: ArrayLike) -> jax.Array:
        """The quantile, to 2e-5 in probability, as it is sampled."""
        p = jnp.asarray(p)
        dtype = np.dtype(p.dtype)
        if dtype not in (np.float32, np.float64):
            p, dtype = p.astype(np.float32), np.dtype(np.float32)
        table, logarithmic = self._table(dtype)
        edges = jnp.asarray(grid(dtype, _CELL_BITS), dtype)
        half = len(table) // 2
        inner = jnp.abs(2 * p - 1)  # P(|W| <= |w|)
        outer = 2 * jnp.minimum(p, 1 - p)
        upper = jnp.interp(outer, edges, table[:half, 0])
        lower = jnp.interp(inner, edges, table[half:, 0])
        size = jnp.where(outer <= 0.5, upper, lower)
        size = jnp.exp(size) if logarithmic else size
        return jnp.where(p < 0.5, -size, size)
