"""Slopes, tails and exponents, beside what as many Gaussian samples show."""

import functools
import math
from typing import NamedTuple

import numpy as np
import scipy.special

from initjax.fit import tails
from initjax.fit.findings import ControlledTail, Cutoff, Sides, Slope
from initjax.fit.histograms import Histogram, bin_edges
from initjax.fit.likelihood import MIN_SIZE
from initjax.support.errors import UserError

CUTOFF_QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
_SLOPE_BINS = 100
_MIN_SLOPE_SIZE = 50  # fewer fill few of the 100 bins
_CONTROLS = 20  # Gaussian samples beside a log-log slope
_TAIL_CONTROLS = 5


class Line(NamedTuple):
    """The least-squares line ln(count) = intercept + slope ln(middle of the bin), bins of width 1.

    Attributes:
      slope: NaN for fewer than two bins that are not empty, as the others.
      intercept: of a middle at 1.
      r_squared: the share of the variance of ln(count) that the line explains.
    """

    slope: float
    intercept: float
    r_squared: float


def log_log_slope(counted: Histogram) -> float:
    """The slope that least squares finds in a log-log histogram of one side: 100 bins of w > 0.

    How the source of NSPL (Xing et al. 2022) and others look for a power law. As a method it is
    unsound: its result depends on the size of the sample, see `gaussian_slopes`. The histogram is
    made from the finer bins of `counted`; NaN for fewer than two weights above 0.
    """
    return log_log_line(log_log_counts(counted)).slope


def log_log_counts(counted: Histogram) -> np.ndarray:
    """float64[100]: how many w > 0 lie in each of 100 bins of equal width up to the largest."""
    lower, upper, counts = counted.positive
    if counts.sum() < 2:
        return np.zeros(_SLOPE_BINS)
    edges = np.linspace(0, upper[-1], _SLOPE_BINS + 1)
    below = np.interp(edges, np.append(lower, upper[-1]), np.append(0, np.cumsum(counts)))
    return np.round(np.diff(below))


def log_log_line(counts) -> Line:
    """The line through the bins of `log_log_counts` that are not empty."""
    used = np.flatnonzero(counts > 0)
    if len(used) < 2:
        return Line(math.nan, math.nan, math.nan)
    x, y = np.log(used + 0.5), np.log(counts[used])
    slope, intercept = np.polyfit(x, y, 1)
    r_squared = np.corrcoef(x, y)[0, 1] ** 2 if np.ptp(y) > 0 else math.nan
    return Line(float(slope), float(intercept), float(r_squared))


def gaussian_slopes(size: int, samples: int = _CONTROLS, seed: int = 0) -> np.ndarray:
    """`log_log_slope` of Gaussian samples that have `size` values above 0."""
    return np.array([log_log_line(c).slope for c in gaussian_log_log_counts(size, samples, seed)])


def gaussian_log_log_counts(size: int, samples: int = _CONTROLS, seed: int = 0) -> np.ndarray:
    """int64[samples, 100]: `log_log_counts` of Gaussian samples, drawn as histograms.

    The largest of n half-normal values is drawn by inverting its distribution function; given it,
    the others are independent below it, so that their counts are multinomial.
    """
    rng = np.random.default_rng(seed)
    rows = np.empty((samples, _SLOPE_BINS), np.int64)
    for i in range(samples):
        largest = -scipy.special.ndtri(-math.expm1(math.log(rng.uniform()) / size) / 2)
        edges = np.linspace(0, largest, _SLOPE_BINS + 1)
        shares = -np.diff(2 * scipy.special.ndtr(-edges))
        rows[i] = rng.multinomial(size - 1, shares / shares.sum())
        rows[i, -1] += 1
    return rows


def gaussian_histogram(size: int, rng: np.random.Generator) -> Histogram:
    """The histogram of `size` values |x|, x ~ N(0, 1), drawn bin by bin."""
    dtype = np.dtype(np.float32)
    lower, upper = bin_edges(dtype)
    shares = scipy.stats.halfnorm.sf(lower) - scipy.stats.halfnorm.sf(upper)
    used = np.flatnonzero(shares > 0)
    counts = np.zeros(2**16, np.int64)
    counts[used] = rng.multinomial(size, shares[used] / shares[used].sum())
    occupied = np.flatnonzero(counts)
    ends = float(lower[occupied[0]]), float(upper[occupied[-1]])
    return Histogram(dtype, counts, 0, 0, *ends)


def tail(counted: Histogram, bootstraps: int, seed: int = 0) -> ControlledTail:
    """The tail that is most like a power law, beside those of as many Gaussian samples."""
    number = len(counted.magnitudes.counts)
    if number < MIN_SIZE:
        raise UserError(f"|w| has {number} different sizes: too few for a tail.")
    found = vars(tails.fit_tail(counted, bootstraps=bootstraps, seed=seed))
    size = int(counted.magnitudes.counts.sum())
    alphas, p = _gaussian_tails(size, bootstraps, seed)
    return ControlledTail(
        **found,
        gaussian_mean=float(np.mean(alphas)),
        gaussian_sd=float(np.std(alphas, ddof=1)),
        gaussian_samples=_TAIL_CONTROLS,
        gaussian_p=p,
    )


@functools.lru_cache(maxsize=256)  # many layers of a network have the same size
def _gaussian_tails(size, bootstraps, seed):
    """(exponents of the tails of Gaussian samples, p of the first)."""
    rng = np.random.default_rng(seed)
    samples = [gaussian_histogram(size, rng) for _ in range(_TAIL_CONTROLS)]
    first = tails.fit_tail(samples[0], bootstraps=bootstraps, seed=seed)
    return [first.alpha, *(tails.fit_tail(sample).alpha for sample in samples[1:])], first.p


def sides(counted: Histogram) -> Sides:
    """How many weights lie below and above 0, and how far apart the laws of their |w| are."""
    negative, positive = counted.sides
    sizes = int(negative.sum()), int(positive.sum())
    if not all(sizes):
        return Sides(*sizes, math.nan, math.nan)
    distance = float(np.abs(np.cumsum(negative) / sizes[0] - np.cumsum(positive) / sizes[1]).max())
    root = math.sqrt(sizes[0] * sizes[1] / sum(sizes))
    return Sides(*sizes, distance, float(scipy.special.kolmogorov(distance * root)))


def slope(counted: Histogram, seed: int = 0) -> Slope | None:
    """The log-log slope beside those of as many Gaussian samples; None where there is none."""
    size = int(counted.positive.counts.sum())
    if size < _MIN_SLOPE_SIZE:
        return None
    control = gaussian_slopes(size, seed=seed)
    mean, sd = float(control.mean()), float(control.std(ddof=1))
    return Slope(log_log_slope(counted), mean, sd, _CONTROLS)


def cutoff_exponents(counted: Histogram) -> tuple[Cutoff, ...]:
    """The exponent of a power law from each of several quantiles of |w| on, with its control.

    The control is the exponent that the normal law has there: alpha = 1 + 1 / E[ln(|w| / xmin)].
    A power law's exponent does not depend on where one cuts.
    """
    lower, upper, counts = counted.magnitudes
    middle = 0.5 * (np.log(np.maximum(lower, 1e-300)) + np.log(upper))
    below = np.append(0, np.cumsum(counts)) / counts.sum()
    above = np.cumsum(counts[::-1])[::-1]
    sums = np.cumsum((counts * middle)[::-1])[::-1]
    rows = []
    for quantile in CUTOFF_QUANTILES:
        k = min(int(np.searchsorted(below, quantile)), len(counts) - 1)
        spread = sums[k] - above[k] * math.log(max(lower[k], counted.smallest))
        if above[k] < 20 or spread <= 0:
            continue
        alpha = 1 + above[k] / spread
        rows.append(
            Cutoff(
                quantile=quantile,
                xmin=float(lower[k]),
                size=int(above[k]),
                alpha=float(alpha),
                standard_error=float((alpha - 1) / math.sqrt(above[k])),
                gaussian_alpha=_gaussian_exponent(float(below[k])),
            )
        )
    return tuple(rows)


def _gaussian_exponent(quantile):
    p = (np.arange(20_000) + 0.5) / 20_000
    sizes = scipy.stats.halfnorm.isf((1 - quantile) * p)
    start = scipy.stats.halfnorm.isf(1 - quantile) if quantile > 0 else sizes.min()
    return float(1 + 1 / np.mean(np.log(sizes / start)))
