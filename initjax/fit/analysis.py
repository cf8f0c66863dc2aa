"""Everything that is asked about the weights of one layer: laws, tail, slopes, scales."""

import math
from collections.abc import Sequence

import numpy as np
import scipy.special

from initjax.distributions.empirical import Empirical
from initjax.distributions.laws import LAWS
from initjax.fit import likelihood
from initjax.fit.claims import power_law_claim
from initjax.fit.controls import cutoff_exponents, sides, slope, tail
from initjax.fit.findings import Analysis, Description, JarqueBera, LawFit, LikelihoodRatio, Vuong
from initjax.fit.grids import channel_grid
from initjax.fit.histograms import Histogram
from initjax.fit.scales import position_fits, scales
from initjax.support.arguments import count
from initjax.support.errors import UserError


def describe(counted: Histogram) -> Description:
    """Size, moments, and the Jarque-Bera test of normality, of finite weights."""
    mean, variance, skewness, kurtosis = counted.moments
    statistic = counted.size / 6 * (skewness**2 + (kurtosis - 3) ** 2 / 4)
    return Description(
        size=counted.size,
        zeros=counted.zeros,
        mean=mean,
        sd=math.sqrt(variance),
        skewness=skewness,
        kurtosis=kurtosis,
        jarque_bera=JarqueBera(statistic, float(scipy.special.chdtrc(2, statistic))),
    )


def compare_laws(counted: Histogram, laws: Sequence[str] = tuple(LAWS)) -> dict[str, LawFit]:
    """All laws, the best by AIC first, each against the normal law and against the best one."""
    return _compared(likelihood.compare(counted, laws))


def _compared(fits):
    normal = next((fit for fit in fits if fit.law == "normal"), None)
    return {fit.law: _law(fit, fits[0], normal) for fit in fits}


def _pair(fit, other):
    """(Vuong's test, likelihood ratio) of two fits: one of them is None."""
    for larger, smaller in ((fit, other), (other, fit)):
        if larger.contains(smaller):
            return None, LikelihoodRatio(*larger.likelihood_ratio(smaller))
    return Vuong(*fit.vuong(other)), None


def _law(fit, best, normal):
    vuong_best, ratio_best = _pair(fit, best)
    vuong_normal, ratio_normal = _pair(fit, normal) if normal else (None, None)
    difference = normal and (fit.log_likelihood - normal.log_likelihood) / fit.size
    return LawFit(
        fit.parameters,
        fit.standard_errors,
        fit.intervals,
        fit.log_likelihood,
        fit.num_parameters,
        fit.aic,
        fit.bic,
        fit.ks,
        fit.support,
        vuong_best=vuong_best,
        vuong_normal=vuong_normal,
        nats_over_normal=difference,
        limit=fit.limit,
        converged=fit.converged,
        goodness=fit.goodness,
        ratio_best=ratio_best,
        ratio_normal=ratio_normal,
    )


def analyze(
    counted: Histogram,
    kernel: np.ndarray | None = None,
    *,
    laws: Sequence[str] = tuple(LAWS),
    bootstraps: int = 100,
    seed: int = 0,
) -> Analysis:
    """All findings about one layer's weights.

    Args:
      counted: their histogram.
      kernel: the weights as (..., in, out), for what depends on positions and channels.
      laws: names in `LAWS` to compare.
      bootstraps: samples for the p of the tail.
      seed: of the bootstrap and of the Gaussian controls.

    Returns:
      `Analysis`; where one analysis fails, its reason stands in `failed` and the others are there.

    Raises:
      UserError (a ValueError): weights to which no law can be fitted, as `likelihood.fit`.
    """
    count(bootstraps, "bootstraps", 0)
    failed: dict[str, str] = {}

    def found(name, function, *arguments):
        """What was asked for; None where it failed, which must not cost what did not."""
        try:
            return function(*arguments)
        except Exception as error:
            failed[name] = str(error) if isinstance(error, UserError) else repr(error)
            return None

    fits, reasons = likelihood.fit_each(counted, laws)
    compared = _compared(fits)
    failed |= {f"law {law}": reason for law, reason in reasons.items()}
    best = fits[0].law
    grid = counted.grid or (None if kernel is None else found("grid", channel_grid, kernel))
    return Analysis(
        **vars(describe(counted)),
        best=best,
        laws=compared,
        slope=found("slope", slope, counted, seed),
        cutoffs=found("cutoffs", cutoff_exponents, counted) or (),
        quantiles=tuple(counted.quantiles(Empirical.probabilities()).tolist()),
        tail=found("tail", tail, counted, bootstraps, seed),
        scales=None if kernel is None else found("scales", scales, kernel),
        positions=None if kernel is None else found("positions", position_fits, kernel, laws),
        grid=grid,
        sides=found("sides", sides, counted),
        claim=found("claim", power_law_claim, best, compared[best], fits[0].size, grid),
        failed=failed,
    )
