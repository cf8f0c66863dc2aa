"""Everything that is asked about the weights of one layer: laws, tail, slopes, scales.

What is found is returned as plain dictionaries, which a fit file holds as json; the docstring of
`fit_file` explains their keys.
"""

import math
from collections.abc import Sequence

import numpy as np
import scipy.special

from initjax import fitting, tails
from initjax.histograms import Histogram, bin_edges, histogram
from initjax.laws import LAWS
from initjax.tabulated import Empirical

CUTOFF_QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
MIN_POSITION_SIZE = 100  # fewer weights at a kernel position are not fitted
_SLOPE_BINS = 100
_MIN_SLOPE_SIZE = 50  # fewer fill few of the 100 bins
_CONTROLS = 20  # Gaussian samples beside a log-log slope
_TAIL_CONTROLS = 5
_BLOCK = 1 << 22  # weights squared at a time


def describe(counted: Histogram) -> dict:
    """Size, moments, and the Jarque-Bera test of normality, of finite weights."""
    mean, variance, skewness, kurtosis = counted.moments
    statistic = counted.size / 6 * (skewness**2 + (kurtosis - 3) ** 2 / 4)
    return {
        "size": counted.size,
        "zeros": counted.zeros,
        "mean": mean,
        "sd": math.sqrt(variance),
        "skewness": skewness,
        "kurtosis": kurtosis,
        "jarque_bera": {"statistic": statistic, "p": float(scipy.special.chdtrc(2, statistic))},
    }


def compare_laws(counted: Histogram, laws: Sequence[str] = tuple(LAWS)) -> dict:
    """All laws, the best by AIC first, each against the normal law and against the best one."""
    fits = fitting.compare(counted, laws)
    best = fits[0]
    normal = next((fit for fit in fits if fit.law == "normal"), None)
    return {fit.law: _law(fit, best, normal) for fit in fits}


def _law(fit, best, normal):
    described = {
        "parameters": fit.parameters,
        "standard_errors": fit.standard_errors,
        "intervals": fit.intervals,
        "log_likelihood": fit.log_likelihood,
        "num_parameters": fit.num_parameters,
        "aic": fit.aic,
        "bic": fit.bic,
        "ks": fit.ks,
        "support": fit.support,
    }
    for name, other in (("best", best), ("normal", normal)):
        if other is not None:
            z, p = fit.vuong(other)
            described[f"vuong_{name}"] = {"z": z, "p": p}
    if normal is not None:
        difference = fit.log_likelihood - normal.log_likelihood
        described["nats_over_normal"] = difference / fit.size
    return described


def log_log_slope(counted: Histogram) -> float:
    """The slope that least squares finds in a log-log histogram of one side: 100 bins of w > 0.

    How the source of NSPL (Xing et al. 2022) and others look for a power law. As a method it is
    unsound: its result depends on the size of the sample, see `gaussian_slopes`. The histogram is
    made from the finer bins of `counted`; NaN for fewer than two weights above 0.
    """
    lower, upper, counts = counted.positive
    if counts.sum() < 2:
        return math.nan
    edges = np.linspace(0, upper[-1], _SLOPE_BINS + 1)
    below = np.interp(edges, np.append(lower, upper[-1]), np.append(0, np.cumsum(counts)))
    return _slope(np.round(np.diff(below)))


def _slope(counts):
    used = np.flatnonzero(counts > 0)
    if len(used) < 2:
        return math.nan
    return float(np.polyfit(np.log(used + 0.5), np.log(counts[used]), 1)[0])


def gaussian_slopes(size: int, samples: int = _CONTROLS, seed: int = 0) -> np.ndarray:
    """`log_log_slope` of Gaussian samples that have `size` values above 0, drawn as histograms.

    The largest of n half-normal values is drawn by inverting its distribution function; given it,
    the others are independent below it, so that their counts are multinomial.
    """
    rng = np.random.default_rng(seed)
    slopes = np.empty(samples)
    for i in range(samples):
        largest = -scipy.special.ndtri(-math.expm1(math.log(rng.uniform()) / size) / 2)
        edges = np.linspace(0, largest, _SLOPE_BINS + 1)
        shares = -np.diff(2 * scipy.special.ndtr(-edges))
        counts = rng.multinomial(size - 1, shares / shares.sum())
        counts[-1] += 1
        slopes[i] = _slope(counts)
    return slopes


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


def tail(counted: Histogram, bootstraps: int, seed: int = 0) -> dict:
    """The tail that is most like a power law, beside those of as many Gaussian samples."""
    found = vars(tails.fit_tail(counted, bootstraps=bootstraps, seed=seed))
    rng = np.random.default_rng(seed)
    size = int(counted.magnitudes.counts.sum())
    control = [tails.fit_tail(gaussian_histogram(size, rng)).alpha for _ in range(_TAIL_CONTROLS)]
    return {
        **found,
        "gaussian_mean": float(np.mean(control)),
        "gaussian_sd": float(np.std(control, ddof=1)),
        "gaussian_samples": _TAIL_CONTROLS,
    }


def slope(counted: Histogram, seed: int = 0) -> dict | None:
    """The log-log slope beside those of as many Gaussian samples; None where there is none."""
    size = int(counted.positive.counts.sum())
    if size < _MIN_SLOPE_SIZE:
        return None
    control = gaussian_slopes(size, seed=seed)
    return {
        "measured": log_log_slope(counted),
        "gaussian_mean": float(control.mean()),
        "gaussian_sd": float(control.std(ddof=1)),
        "gaussian_samples": _CONTROLS,
    }


def cutoff_exponents(counted: Histogram) -> list[dict]:
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
            {
                "quantile": quantile,
                "xmin": float(lower[k]),
                "size": int(above[k]),
                "alpha": float(alpha),
                "standard_error": float((alpha - 1) / math.sqrt(above[k])),
                "gaussian_alpha": _gaussian_exponent(float(below[k])),
            }
        )
    return rows


def _gaussian_exponent(quantile):
    p = (np.arange(20_000) + 0.5) / 20_000
    sizes = scipy.stats.halfnorm.isf((1 - quantile) * p)
    start = scipy.stats.halfnorm.isf(1 - quantile) if quantile > 0 else sizes.min()
    return float(1 + 1 / np.mean(np.log(sizes / start)))


def scales(kernel: np.ndarray) -> dict | None:
    """How much of a heavy tail is a mixture of positions and output channels of other scales.

    Args:
      kernel: (..., in, out), the axes before being kernel positions.

    Returns:
      Root mean squares by position and their and the channels' spread (standard deviation of the
      logarithm), and the kurtosis E[w^4] / E[w^2]^2 as it is, and with the positions', the
      channels', and both scales divided out; None for fewer than two axes. `normal_floor` is what
      independent normal weights have when m of them are divided by their own root mean square,
      3 m / (m + 2): no kurtosis after a division is evidence below it.
    """
    if kernel.ndim < 2:
        return None
    positions, outputs = kernel.shape[:-2], kernel.shape[-1]
    flat = kernel.reshape(math.prod(positions), -1, outputs)
    second, fourth = np.zeros((2, len(flat), outputs))
    step = max(_BLOCK // (len(flat) * outputs), 1)
    for start in range(0, flat.shape[1], step):
        square = np.square(flat[:, start : start + step].astype(np.float64))
        second += square.sum(1)
        fourth += np.square(square).sum(1)
    second, fourth = second / flat.shape[1], fourth / flat.shape[1]
    if not second.any():
        return None
    second, fourth = second / second.mean(), fourth / second.mean() ** 2
    unit = np.ones_like(second)
    position = np.broadcast_to(_positive(second.mean(1, keepdims=True)), second.shape)
    channel = np.broadcast_to(_positive(second.mean(0, keepdims=True)), second.shape)
    both = channel
    for _ in range(10):  # variances of positions times those of channels, fitted in turns
        of_position = _positive((second / both).mean(1, keepdims=True))
        of_channel = _positive((second / of_position).mean(0, keepdims=True))
        both = of_channel
    both = of_position * of_channel

    def kurtosis(variance):
        return float((fourth / variance**2).mean() / (second / variance).mean() ** 2)

    per_channel = len(flat) * flat.shape[1]
    return {
        "position_scale": np.sqrt(position[:, 0]).reshape(positions).tolist(),
        "position_spread": float(0.5 * np.log(position[:, 0]).std()),
        "channel_spread": float(0.5 * np.log(channel[0]).std()),
        "kurtosis": kurtosis(unit),
        "kurtosis_without_position": kurtosis(position),
        "kurtosis_without_channel": kurtosis(channel),
        "kurtosis_without_both": kurtosis(both),
        "normal_floor": 3 * per_channel / (per_channel + 2),
    }


def _positive(variance):
    """Scales of channels that are all 0 are 1: there is nothing to divide."""
    return np.where(variance > 0, variance, 1.0)


def position_fits(kernel: np.ndarray, laws: Sequence[str]) -> list[dict]:
    """The best law, the exponent and the scale at every kernel position of a convolution."""
    positions = kernel.shape[:-2]
    if math.prod(positions) < 2 or math.prod(kernel.shape[-2:]) < MIN_POSITION_SIZE:
        return []
    rows = []
    for index in np.ndindex(positions):
        counted = histogram(kernel[index])
        if len(counted.magnitudes.counts) < fitting.MIN_SIZE:
            continue
        found = {fit.law: fit for fit in fitting.compare(counted, laws)}
        _, variance, _, kurtosis = counted.moments
        row = {"position": index, "sd": math.sqrt(variance), "kurtosis": kurtosis}
        row["best"] = next(iter(found))
        for law in ("truncated_power_law", "cutoff_power_law"):
            if law in found:
                row[law] = {
                    "alpha": found[law].parameters["alpha"],
                    "standard_error": found[law].standard_errors["alpha"],
                }
        rows.append(row)
    return rows


def analyze(
    counted: Histogram,
    kernel: np.ndarray | None = None,
    *,
    laws: Sequence[str] = tuple(LAWS),
    bootstraps: int = 100,
    seed: int = 0,
) -> dict:
    """All findings about one layer's weights.

    Args:
      counted: their histogram.
      kernel: the weights as (..., in, out), for what depends on positions and channels.
      laws: names in `LAWS` to compare.
      bootstraps: samples for the p of the tail.
      seed: of the bootstrap and of the Gaussian controls.
    """
    compared = compare_laws(counted, laws)
    found = {
        **describe(counted),
        "best": next(iter(compared)),
        "laws": compared,
        "slope": slope(counted, seed),
        "cutoffs": cutoff_exponents(counted),
        "quantiles": counted.quantiles(Empirical.probabilities()).tolist(),
    }
    if len(counted.magnitudes.counts) >= fitting.MIN_SIZE:
        found["tail"] = tail(counted, bootstraps, seed)
    if kernel is not None:
        found["scales"] = scales(kernel)
        found["positions"] = position_fits(kernel, laws)
    return found
