"""Laws without a closed inverse CDF, sampled from a quantile table that the float bits index.

A probability p in (0, 1/2] is a float: its exponent and leading mantissa bits are the number of a
table cell, the other mantissa bits the position in the cell. There is no search, one gather, and
the far tail is resolved as well as the body, since cells halve with p. A symmetric law has a table
of |w| (or ln|w|) at P(|W| > |w|) = p and one at P(|W| <= |w|) = p.
"""

import abc
import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jax.scipy import special

from initjax.arguments import finite, positive
from initjax.distributions import Distribution
from initjax.errors import UserError

_CELL_BITS = 6  # 64 cells an octave: sampled probabilities are exact to 2e-5
_LINEAR_ERROR = 1.5e-5  # largest error in probability for which |w| is interpolated, not ln|w|


def _grid(dtype, cell_bits: int) -> np.ndarray:
    """The cells' edges, from the smallest probability that is drawn to 1/2."""
    digits = 24 if dtype == np.float32 else 53
    exponents = np.arange(-digits - 2, -1)
    fractions = 1 + np.arange(2**cell_bits) / 2**cell_bits
    edges = np.ldexp(fractions[None, :], exponents[:, None]).ravel()
    return np.append(edges, 0.5)


def _random_cell(key, shape, dtype, out_sharding, cell_bits):
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


def _interpolate(table, cell, position):
    """Linear interpolation in a table of (value, difference to the next)."""
    # Cells are in range by construction, which the compiler cannot know.
    pair = table.at[cell].get(mode="promise_in_bounds")
    return pair[..., 0] + position * pair[..., 1]


def _with_differences(values, dtype):
    return np.stack([values, np.append(np.diff(values), 0.0)], axis=-1).astype(dtype)


@dataclasses.dataclass(frozen=True)
class SymmetricTabulated(Distribution):
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
        edges = _grid(dtype, _CELL_BITS)
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
        return np.concatenate([_with_differences(t, dtype) for t in tables]), logarithmic

    def draw(self, key, shape, dtype, out_sharding):
        table, logarithmic = self._table(dtype)
        bits, cell, position = _random_cell(key, shape, dtype, out_sharding, _CELL_BITS)
        cell = jnp.where((bits & 2).astype(bool), cell + len(table) // 2, cell)
        size = _interpolate(jnp.asarray(table), cell, position)
        size = jnp.exp(size) if logarithmic else size
        return jnp.where((bits & 1).astype(bool), -size, size)

    def icdf(self, p):
        """The quantile, to 2e-5 in probability, as it is sampled."""
        p = jnp.asarray(p)
        dtype = np.dtype(p.dtype)
        if dtype not in (np.float32, np.float64):
            p, dtype = p.astype(np.float32), np.dtype(np.float32)
        table, logarithmic = self._table(dtype)
        edges = jnp.asarray(_grid(dtype, _CELL_BITS), dtype)
        half = len(table) // 2
        inner = jnp.abs(2 * p - 1)  # P(|W| <= |w|)
        outer = 2 * jnp.minimum(p, 1 - p)
        upper = jnp.interp(outer, edges, table[:half, 0])
        lower = jnp.interp(inner, edges, table[half:, 0])
        size = jnp.where(outer <= 0.5, upper, lower)
        size = jnp.exp(size) if logarithmic else size
        return jnp.where(p < 0.5, -size, size)


@dataclasses.dataclass(frozen=True)
class StudentT(SymmetricTabulated):
    """Student's t law of `df` degrees of freedom: p(x) ~ (1 + x^2 / df)^(-(df+1)/2).

    The variance df / (df - 2) is inf for df <= 2, the kurtosis 3 + 6 / (df - 4) for df <= 4.
    """

    df: float = 5.0

    def __post_init__(self):
        object.__setattr__(self, "df", positive(self.df, "df"))

    @property
    def std(self):
        return math.sqrt(self.df / (self.df - 2)) if self.df > 2 else math.inf

    @property
    def kurtosis(self):
        return 3 + 6 / (self.df - 4) if self.df > 4 else math.inf

    def log_prob(self, x):
        df = self.df
        normalizer = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(df * math.pi)
        return normalizer - 0.5 * (df + 1) * jnp.log1p(jnp.square(x) / df)

    def cdf(self, x):
        x = jnp.asarray(x)
        tail = 0.5 * special.betainc(0.5 * self.df, 0.5, self.df / (self.df + jnp.square(x)))
        return jnp.where(x > 0, 1 - tail, tail)

    def magnitude_isf(self, p):
        return np.abs(scipy.special.stdtrit(self.df, p / 2))  # abs: at p = 0 it is +inf

    def magnitude_ppf(self, p):
        # x^2 / (df + x^2) has a beta law: no cancellation around 0, where isf(1/2 - p/2) has one.
        share = scipy.special.betaincinv(0.5, self.df / 2, p)
        return np.sqrt(self.df * share / (1 - share))


@dataclasses.dataclass(frozen=True)
class GeneralizedNormal(SymmetricTabulated):
    """p(x) = power / (2 Gamma(1/power)) exp(-|x|^power); variance Gamma(3/power) / Gamma(1/power).

    power = 2 is normal (of variance 1/2), 1 is Laplace; |x|^power has a gamma law.
    """

    power: float = 1.5

    def __post_init__(self):
        object.__setattr__(self, "power", positive(self.power, "power"))

    def _moment(self, order):
        return math.exp(math.lgamma((order + 1) / self.power) - math.lgamma(1 / self.power))

    @property
    def std(self):
        return math.sqrt(self._moment(2))

    @property
    def kurtosis(self):
        return self._moment(4) / self._moment(2) ** 2

    def log_prob(self, x):
        normalizer = math.log(self.power / 2) - math.lgamma(1 / self.power)
        return normalizer - jnp.abs(x) ** self.power

    def cdf(self, x):
        inside = special.gammainc(1 / self.power, jnp.abs(x) ** self.power)
        return 0.5 + 0.5 * jnp.sign(x) * inside

    def magnitude_isf(self, p):
        return scipy.special.gammainccinv(1 / self.power, p) ** (1 / self.power)

    def magnitude_ppf(self, p):
        return scipy.special.gammaincinv(1 / self.power, p) ** (1 / self.power)


@dataclasses.dataclass(frozen=True)
class CutoffPowerLaw(SymmetricTabulated):
    """The symmetric power law with an exponential cut-off.

        p(x) ~ |x|^-alpha e^-|x|,   |x| >= 1/ratio

    The large weights fade out instead of ending, which is what the first layers of trained VGG
    networks show. For alpha < 1 and an infinite ratio, |x| has the gamma law of shape 1 - alpha.

    Args:
      alpha: the exponent.
      ratio: the scale of the cut-off over the smallest |x|; inf is allowed for alpha < 1.
    """

    alpha: float = 1.0
    ratio: float = 100.0

    def __post_init__(self):
        object.__setattr__(self, "alpha", finite(self.alpha, "alpha"))
        if self.ratio != math.inf or self.alpha >= 1:
            object.__setattr__(self, "ratio", positive(self.ratio, "ratio"))

    @functools.cached_property
    def _integrals(self):
        """(y, ln of the mass below y, ln of the mass above, moments 0 to 4), y = ln|x|.

        The density of y is exp((1 - alpha) y - e^y), integrated by Gauss-Legendre on panels of
        0.002; an infinite ratio starts where the mass below is 1e-20 of the whole.
        """
        shape = 1 - self.alpha
        low = -46 / shape if self.ratio == math.inf else -math.log(self.ratio)
        # Above this lies less than any p that is drawn.
        high = math.log(math.exp(low) + 60 + 4 * max(shape, 0))
        y = np.linspace(low, high, min(max(int((high - low) / 0.002), 1000), 50_000) + 1)
        nodes, weights = np.polynomial.legendre.leggauss(6)
        step = y[1] - y[0]
        at = y[:-1, None] + 0.5 * step * (nodes + 1)
        log_density = shape * at - np.exp(at)
        scale = log_density.max()
        mass = np.exp(log_density - scale) * weights * (0.5 * step)
        panels = mass.sum(axis=1)
        start = 0.0
        if self.ratio == math.inf:
            start = math.exp(shape * low - scale) / shape  # what lies below: e^-|x| is 1 there
        below = start + np.concatenate([[0.0], np.cumsum(panels)])
        above = np.concatenate([np.cumsum(panels[::-1])[::-1], [0.0]])
        moments = [start * (k == 0) + (mass * np.exp(k * at)).sum() for k in range(5)]
        total = below[-1]
        with np.errstate(divide="ignore"):
            return (
                y,
                np.log(below / total),
                np.log(above / total),
                np.array(moments) / total,
                (math.log(total) + scale),
            )

    @property
    def std(self):
        return math.sqrt(self._integrals[3][2])

    @property
    def kurtosis(self):
        moments = self._integrals[3]
        return float(moments[4] / moments[2] ** 2)

    def log_prob(self, x):
        size = jnp.abs(x)
        inside = size >= 1 / self.ratio
        safe = jnp.where(inside, size, 1.0)
        value = -self.alpha * jnp.log(safe) - safe - self._integrals[4] - math.log(2)
        return jnp.where(inside, value, -jnp.inf)

    def cdf(self, x):
        y, log_below, *_ = self._integrals
        size = jnp.maximum(jnp.abs(x), 1e-300)
        below = jnp.interp(jnp.log(size), y, np.exp(log_below), left=0.0, right=1.0)
        return 0.5 + 0.5 * jnp.sign(x) * below

    def magnitude_isf(self, p):
        y, _, log_above, *_ = self._integrals
        # Where the mass above is 0 in float64, no p is.
        return np.exp(np.interp(-np.log(p), -log_above[:-1], y[:-1]))

    def magnitude_ppf(self, p):
        y, log_below, *_ = self._integrals
        if self.ratio == math.inf:
            return np.exp(np.interp(np.log(p), log_below, y, left=y[0]))
        return np.exp(np.interp(p, np.exp(log_below), y))  # y leaves its end in proportion to p


_EMPIRICAL_CELL_BITS = 3


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
        low = _grid(np.float32, _EMPIRICAL_CELL_BITS)
        return np.concatenate([low, 1 - low[-2::-1]])

    @classmethod
    def fit(cls, samples) -> "Empirical":
        """The quantiles of an array of weights, of any shape.

        >>> round(Empirical.fit(np.linspace(-1, 1, 10_001)).std, 3)
        0.577
        """
        values = np.asarray(samples, np.float64).ravel()
        if values.size < 2 or not np.isfinite(values).all():
            raise UserError(f"samples: {values.size} values, not all finite or fewer than 2.")
        return cls(tuple(np.quantile(values, cls.probabilities()).tolist()))

    def __post_init__(self):
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
    def mean(self):
        return self._moments[0]

    @property
    def std(self):
        return math.sqrt(self._moments[1])

    @property
    def kurtosis(self):
        return self._moments[2] / self._moments[1] ** 2

    def log_prob(self, x):
        p, q = self._knots()
        with np.errstate(divide="ignore"):
            log_density = np.log(np.diff(p)) - np.log(np.diff(q))
        index = jnp.clip(jnp.searchsorted(q, x, side="right") - 1, 0, len(q) - 2)
        inside = (x >= q[0]) & (x <= q[-1])
        return jnp.where(inside, jnp.asarray(log_density)[index], -jnp.inf)

    def cdf(self, x):
        p, q = self._knots()
        return jnp.interp(x, q, p, left=0.0, right=1.0)

    def icdf(self, p):
        return jnp.interp(p, *self._knots())

    def draw(self, key, shape, dtype, out_sharding):
        q = np.asarray(self.quantiles)
        half = len(q) // 2 + 1
        # Quantiles from below up to the median, and from above down to it.
        pairs = [_with_differences(side[:half], dtype) for side in (q, q[::-1])]
        single = np.dtype(np.float32)
        bits, cell, position = _random_cell(key, shape, single, out_sharding, _EMPIRICAL_CELL_BITS)
        cell = jnp.where((bits & 2).astype(bool), cell + half, cell)
        return _interpolate(jnp.asarray(np.concatenate(pairs)), cell, position.astype(dtype))
