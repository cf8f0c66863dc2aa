"""Everything that is asked about the weights of one layer: laws, tail, slopes, scales.

What is found is returned as plain dictionaries, which a fit file holds as json; the docstring of
`initjax.fit.file` explains their keys.
"""

import math
from collections.abc import Sequence

import numpy as np
import scipy.special

from initjax.distributions.empirical import Empirical
from initjax.distributions.laws import LAWS
from initjax.fit import likelihood
from initjax.fit.controls import cutoff_exponents, slope, tail
from initjax.fit.histograms import Histogram
from initjax.fit.likelihood import MIN_SIZE
from initjax.fit.scales import position_fits, scales


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
    fits = likelihood.compare(counted, laws)
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
    if len(counted.magnitudes.counts) >= MIN_SIZE:
        found["tail"] = tail(counted, bootstraps, seed)
    if kernel is not None:
        found["scales"] = scales(kernel)
        found["positions"] = position_fits(kernel, laws)
    return found
