"""Counts of weights by their leading float bits: what every fit is made from.

A float's exponent and leading mantissa bits are the number of its bin. Counting so needs no search,
128 bins an octave and a sign resolve the far tail as well as the body, and the counts of layers,
devices and shards add up.
"""

import concurrent.futures
import dataclasses
import functools
import operator
import os
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from initjax.fit.grids import MOST_SIZES, Grid, Sizes, cells, few_sizes, gap, is_few
from initjax.support.errors import UserError

# Elements counted at a time: all the memory that counting takes beyond its 512 KiB of counts.
_CHUNK = 1 << 18

_SAMPLE = 1 << 13  # elements that tell whether sizes may be few

# Of sign and magnitude, in at most 16 bits: every number has a bin.
_LOSSLESS = ("float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")


class Magnitudes(NamedTuple):
    """|w| of the weights that are not 0, by bins in rising order; bins without weights left out.

    Attributes:
      lower: float64[bins], where each bin begins.
      upper: float64[bins], where it ends.
      counts: int64[bins].
    """

    lower: np.ndarray
    upper: np.ndarray
    counts: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Histogram:
    """How many weights have which leading bits; `histogram` makes it, `+` merges it.

    Attributes:
      dtype: the float dtype whose bits name the bins.
      counts: int64[2^bits] of the weights that are not 0, by the leading bits, sign first.
      zeros: how many weights are exactly 0.
      not_finite: how many are infinite or NaN; they are in no other figure.
      smallest: the least |w| that is not 0; inf where there is none.
      largest: the largest |w|; 0 where there is none.
      sizes: the different |w| > 0, if they are few; None where they are many.
      is_rounded: whether float32 numbers are all bfloat16 ones, each in the middle of its bin.
    """

    dtype: np.dtype
    counts: np.ndarray
    zeros: int
    not_finite: int
    smallest: float
    largest: float
    sizes: Sizes | None = None
    is_rounded: bool = False

    def __add__(self, other: "Histogram") -> "Histogram":
        if not isinstance(other, Histogram):
            return NotImplemented
        if self.dtype != other.dtype:
            raise UserError(
                f"Histograms of {self.dtype} and {other.dtype} have different bins; count both with"
                " dtype=float32."
            )
        return Histogram(
            self.dtype,
            self.counts + other.counts,
            self.zeros + other.zeros,
            self.not_finite + other.not_finite,
            min(self.smallest, other.smallest),
            max(self.largest, other.largest),
            _together(self, other),
            all(part.is_rounded or not part.largest for part in (self, other)),
        )

    @functools.cached_property
    def size(self) -> int:
        """How many weights are finite, zeros included."""
        return int(self.counts.sum()) + self.zeros - self.not_finite

    @functools.cached_property
    def _bins(self):
        """(lower, upper, negative counts, positive counts), |w| > 0, by rising magnitude."""
        lower, upper = bin_edges(np.dtype("bfloat16") if self.is_rounded else self.dtype)
        half = len(self.counts) // 2
        positive, negative = self.counts[: len(lower)], self.counts[half:][: len(lower)]
        used = np.flatnonzero(positive + negative)
        lower, upper = lower[used], upper[used]
        if self.dtype == np.float32 and not self.is_rounded:
            lower, upper = np.maximum(lower, self.smallest), np.minimum(upper, self.largest)
        return lower, upper, negative[used], positive[used]

    @functools.cached_property
    def _grid(self) -> tuple[Grid | None, Magnitudes]:
        lower, upper, negative, positive = self._bins
        counts = negative + positive
        bins = Magnitudes(lower, upper, counts)
        sizes, eps = self.sizes, float(jnp.finfo(self.dtype).eps)
        if sizes is not None:
            grid, lower, upper = cells(sizes, self.zeros, eps)
            return grid, Magnitudes(lower, upper, sizes.counts)
        kind = "bfloat16" if self.is_rounded else self.dtype.name
        if kind != "float32":
            hidden = self.zeros and len(lower) and lower[0] < 4 * bin_edges(np.dtype(kind))[1][0]
            return Grid(kind, 0, np.nan, float(lower[0]) if hidden else 0.0), bins
        if len(counts) > 2 and gap(*bins):
            pruned = self.zeros > 0
            return Grid("pruned" if pruned else "gap", 0, np.nan, self.smallest * pruned), bins
        return None, bins

    @property
    def grid(self) -> Grid | None:
        """What |w| may be, where that is not every float32 number."""
        return self._grid[0]

    @property
    def magnitudes(self) -> Magnitudes:
        """|w| of the weights that are not 0, by bins: by cells of their grid, if sizes are few."""
        return self._grid[1]

    @property
    def edges(self) -> np.ndarray:
        """Where the bins begin that |w| > 0 may lie in, in rising order."""
        grid, bins = self._grid
        if grid and grid.kind == "step":
            return (np.arange(1 + int(8 * self.largest / grid.step)) + 0.5) * grid.step
        if grid and grid.sizes:
            return bins.lower
        return bin_edges(np.dtype("bfloat16") if self.is_rounded else self.dtype)[0][1:]

    @property
    def sides(self) -> tuple[np.ndarray, np.ndarray]:
        """Counts of w < 0 and of w > 0, int64[bins] by rising |w|."""
        return self._bins[2:]

    @functools.cached_property
    def positive(self) -> Magnitudes:
        """The weights above 0 alone."""
        lower, upper, _, positive = self._bins
        used = np.flatnonzero(positive)
        return Magnitudes(lower[used], upper[used], positive[used])

    @functools.cached_property
    def moments(self) -> tuple[float, float, float, float]:
        """(mean, variance, skewness, kurtosis) of all finite weights; kurtosis 3 is a normal law's.

        From the bins' means of a uniform law in the bin: relative error 1e-5 in the variance.
        """
        if self.size == 0:
            return (0.0, 0.0, 0.0, 0.0)
        lower, upper, negative, positive = self._bins
        scale = self.largest or 1.0
        left = np.concatenate([-upper, [0.0], lower]) / scale
        right = np.concatenate([-lower, [0.0], upper]) / scale
        shares = np.concatenate([negative, [self.zeros], positive]) / self.size
        mean = float((shares * (left + right)).sum()) / 2
        # Around the mean, which may be far from 0 beside the standard deviation. E[x^k] in a bin is
        # the sum of left^i right^(k-i) over k + 1.
        left, right = left - mean, right - mean
        second, third, fourth = (
            float((shares * sum(left**i * right ** (k - i) for i in range(k + 1))).sum()) / (k + 1)
            for k in (2, 3, 4)
        )
        if second <= 1e-30:  # of squares of at most 1: rounding
            return (mean * scale, 0.0, 0.0, 0.0)
        return mean * scale, second * scale**2, third / second**1.5, fourth / second**2

    def quantiles(self, probabilities) -> np.ndarray:
        """float64 quantiles of all finite weights, uniform within bins."""
        lower, upper, negative, positive = self._bins
        lower, upper = np.maximum(lower, self.smallest), np.minimum(upper, self.largest)
        # Bins are apart: each gives its two ends.
        left = np.stack([-upper[::-1], -lower[::-1]], -1).ravel()
        right = np.stack([lower, upper], -1).ravel()
        mass = [negative[::-1], [self.zeros], positive]
        below = np.concatenate([[0], np.cumsum(np.concatenate(mass))]) / self.size
        ends = np.stack([below[:-1], below[1:]], -1)
        values = np.concatenate([left, [0.0, 0.0], right])
        keep = np.repeat(np.diff(below) > 0, 2)
        return np.interp(probabilities, ends.ravel()[keep], values[keep])


def histogram(weights, *, dtype=None) -> Histogram:
    """Counts an array of weights by their leading float bits.

    Weights of 8 or 16 bits (bfloat16, float16, fp8) are binned without loss: a bin is everything
    that is rounded to its number. float32 is binned by its 16 leading bits, 128 bins an octave;
    float64 as float32.

    Args:
      weights: an array of floats of any shape, of NumPy or JAX.
      dtype: count as if cast to this, so that histograms of different dtypes can be added.

    Returns:
      A `Histogram`.

    Raises:
      UserError (a ValueError): weights that are not real floats.

    >>> import numpy as np
    >>> halves = histogram(np.float32([0.5, -0.25, 0.0])) + histogram(np.float32([1.0]))
    >>> halves.size, halves.zeros, halves.largest
    (4, 1, 1.0)
    """
    weights = np.asarray(weights)
    if not jnp.issubdtype(weights.dtype, jnp.floating):
        raise UserError(f"weights of dtype {weights.dtype} are not floats; nothing to fit.")
    dtype = np.dtype(dtype or weights.dtype)
    if dtype.name not in _LOSSLESS:
        dtype = np.dtype(np.float32)
    flat = weights.reshape(-1)
    chunks = [flat[start : start + _CHUNK] for start in range(0, flat.size, _CHUNK)]
    counts = np.zeros(2 ** min(16, 8 * dtype.itemsize), np.int64)
    zeros, first, last = 0, [], []
    for part in _map(lambda chunk: _count(chunk, dtype), chunks):
        counts += part[0]
        zeros += part[1]
        first.append(part[2])
        last.append(part[3])
    lower = bin_edges(dtype)[0]
    half = len(counts) // 2
    not_finite = counts[len(lower) : half].sum() + counts[half + len(lower) :].sum()
    smallest, largest = np.inf, 0.0
    if counts.sum() > not_finite:
        # The extreme weights are in the few chunks that reach the extreme bins.
        low, high = min(first), max(last)
        smallest = min(_ends(c, dtype)[0] for c, k in zip(chunks, first, strict=True) if k == low)
        largest = max(_ends(c, dtype)[1] for c, k in zip(chunks, last, strict=True) if k == high)
    sample = _cast(flat[:: max(flat.size // _SAMPLE, 1)], dtype)
    sizes = few_sizes((_cast(chunk, dtype) for chunk in chunks), sample)
    is_rounded = dtype == np.float32 and largest > 0 and _is_bfloat16(sample, chunks)
    written = np.dtype("bfloat16") if is_rounded else dtype
    if sizes is not None and written.name in _LOSSLESS and _is_dense(sizes, written):
        sizes = None  # as few as the dtype has
    return Histogram(
        dtype, counts, zeros, int(not_finite), smallest, largest, sizes, bool(is_rounded)
    )


def _together(one, other) -> Sizes | None:
    """The sizes of both; None where those of either, or of both together, are many."""
    parts = [part.sizes for part in (one, other) if part.largest]
    if not parts or any(part is None for part in parts):
        return None
    whole = functools.reduce(operator.add, parts)
    return whole if len(whole.values) <= MOST_SIZES and is_few(whole) else None


def _is_dense(sizes, dtype) -> bool:
    """Whether most numbers of the dtype between the quartiles of |w| occur."""
    reached = np.cumsum(sizes.counts)
    low, high = np.searchsorted(reached, reached[-1] * np.array([0.25, 0.75]))
    first, last = np.searchsorted(_values(dtype), sizes.values[[low, high]])
    return high - low >= 0.5 * (last - first)


def _is_bfloat16(sample, chunks) -> bool:
    """Whether the lower halves of all float32 patterns are 0."""

    def holds(part):
        return not (_cast(part, np.dtype(np.float32)).view(np.uint32) & 0xFFFF).any()

    return holds(sample) and all(map(holds, chunks))


def _map(function, items):
    """`map` over threads, where there is enough to do; NumPy leaves the lock while it counts."""
    workers = min(os.cpu_count() or 1, len(items), 8)
    if workers < 2:
        yield from map(function, items)
        return
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        yield from pool.map(function, items)


def _cast(chunk, dtype):
    with np.errstate(over="ignore"):  # float64 beyond float32 counts as infinite
        return np.ascontiguousarray(chunk.astype(dtype, copy=False))


def _count(chunk, dtype):
    """(counts, zeros, first bin of |w| > 0, last bin of finite |w|) of one chunk."""
    chunk = _cast(chunk, dtype)
    wide = dtype.itemsize > 2
    bits = chunk.view(f"u{dtype.itemsize}")
    pattern = (bits >> 16 if wide else bits).astype(np.intp)
    counts = np.bincount(pattern, minlength=2 ** min(16, 8 * dtype.itemsize))
    half = len(counts) // 2
    zeros = 0
    for first, zero in ((0, chunk.dtype.type(0)), (half, -chunk.dtype.type(0))):
        if counts[first]:  # float32's first bins hold denormals as well
            same = int(np.count_nonzero(bits == zero.view(bits.dtype)))
            counts[first] -= same
            zeros += same
    used = np.flatnonzero((counts[:half] + counts[half:])[: len(_values(dtype))])
    return counts, zeros, *((used[0], used[-1]) if used.size else (half, -1))


def _ends(chunk, dtype):
    """(least |w| > 0, largest finite |w|) of a chunk that has them."""
    size = np.abs(_cast(chunk, dtype).astype(np.float64))
    size = size[(size > 0) & np.isfinite(size)]
    return float(size.min()), float(size.max())


@functools.cache
def _values(dtype) -> np.ndarray:
    """The number at which each bin of |w| begins, or that it holds if the dtype has <= 16 bits."""
    if dtype.itemsize > 2:
        values = (np.arange(2**15, dtype=np.uint32) << 16).view(np.float32)
    else:
        half = 2 ** (8 * dtype.itemsize - 1)
        values = np.arange(half, dtype=f"u{dtype.itemsize}").view(dtype)
    with np.errstate(invalid="ignore"):  # signalling NaNs
        values = values.astype(np.float64)
    return values[: int(np.isfinite(values).sum())]


@functools.cache
def bin_edges(dtype) -> tuple[np.ndarray, np.ndarray]:
    """(lower, upper) edges of every bin of |w|, from the one of 0 on."""
    values = _values(dtype)
    if dtype.itemsize > 2:
        return values, np.append(values[1:], float(np.finfo(np.float32).max))
    # What lies halfway between neighbours is where rounding turns.
    middle = 0.5 * (values[:-1] + values[1:])
    return np.append(0.0, middle), np.append(middle, values[-1])
