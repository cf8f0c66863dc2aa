"""Every law: those that can be drawn from, and those that are fitted."""

import math

import numpy as np
import scipy  # and not scipy.special, which takes 0.2 s: it loads at its first use

from initjax.distributions.cutoff_power_law import CutoffPowerLaw
from initjax.distributions.empirical import Empirical
from initjax.distributions.family import LOG_HALF_NORMAL, Law, scale_law
from initjax.distributions.generalized_gamma import GeneralizedGamma
from initjax.distributions.generalized_normal import GeneralizedNormal
from initjax.distributions.laplace import Laplace
from initjax.distributions.log_normal import LogNormal
from initjax.distributions.logistic import Logistic
from initjax.distributions.normal import Normal
from initjax.distributions.normal_mixture import NormalMixture
from initjax.distributions.power_law import SymmetricPowerLaw, log_h
from initjax.distributions.student_t import StudentT
from initjax.distributions.truncated_normal import TruncatedNormal
from initjax.distributions.uniform import Uniform


def _t_log_density(x, df):
    normalizer = (
        scipy.special.gammaln((df + 1) / 2)
        - scipy.special.gammaln(df / 2)
        - 0.5 * np.log(df * (math.pi / 4))
    )
    return normalizer - 0.5 * (df + 1) * np.log1p(x * x / df)


def _log_normal_start(sample):
    mean = sample.mean(np.log)
    return math.exp(mean), math.sqrt(max(sample.mean(lambda x: (np.log(x) - mean) ** 2), 1e-6))


def _mixture_log_density(x, ratio, weight):
    narrow = np.log1p(-weight) - 0.5 * x * x
    wide = np.log(weight / ratio) - 0.5 * (x / ratio) ** 2
    return LOG_HALF_NORMAL + np.logaddexp(narrow, wide)


def _power_start(sample):
    return 1 + 1 / max(sample.mean(lambda x: np.log(x / sample.lower[0])), 1e-6)


def _truncated_log_density(x, support, alpha):
    a, b = support
    return -alpha * np.log(x / b) - math.log(b) - log_h(1 - alpha, math.log(b / a))


def _truncated_cdf(x, support, alpha):
    a, b = support
    length = np.log(np.clip(x, a, b) / a)
    # ln of the mass of [a, x] over that of [a, b], both as multiples of a^(1 - alpha).
    part = log_h(1 - alpha, np.maximum(length, 1e-300)) + (1 - alpha) * length
    whole = log_h(1 - alpha, math.log(b / a)) + (1 - alpha) * math.log(b / a)
    return np.where(length > 0, np.exp(part - whole), 0.0)


def _cutoff_nodes(a, alpha, scale):
    """(ln x, ln of x^(1-alpha) e^(-x/scale) times the weight) [..., nodes] over [a, inf).

    Gauss-Legendre in y = ln x, panels of at most 0.3.
    """
    points, weights = np.polynomial.legendre.leggauss(8)
    low = math.log(a)
    high = np.log(a + scale * (60 + 4 * np.maximum(1 - alpha, 0)))
    panels = max(int(np.max(high - low) / 0.3) + 1, 8)
    width = (high - low)[..., None] / panels
    position = (np.arange(panels)[:, None] + 0.5 * (points + 1)).ravel()
    y = low + width * position
    log_weight = np.log(0.5 * width) + np.log(np.tile(weights, panels))
    return y, (1 - alpha)[..., None] * y - np.exp(y) / scale[..., None] + log_weight


def _cutoff_log_density(x, support, alpha, scale):
    _, terms = _cutoff_nodes(support[0], alpha, scale)
    return -alpha * np.log(x) - x / scale - scipy.special.logsumexp(terms, axis=-1)


def _cutoff_cdf(x, support, alpha, scale):
    # Masses of panels so narrow that the distribution function is linear in them.
    high = math.log(support[0] + scale * (60 + 4 * max(1 - alpha, 0)))
    y = np.linspace(math.log(support[0]), high, 8192)
    log_density = (1 - alpha) * y - np.exp(y) / scale
    density = np.exp(log_density - log_density.max())
    below = np.append(0, np.cumsum(density[1:] + density[:-1]))
    return np.interp(np.log(x), y, below / below[-1])


def _symmetric_power_law(support, parameters):
    return SymmetricPowerLaw(parameters["alpha"], support[1] / support[0])


LAWS: dict[str, Law] = {
    "normal": scale_law(
        {},
        lambda x: LOG_HALF_NORMAL - 0.5 * x * x,
        lambda x: scipy.special.erf(x / math.sqrt(2)),
        lambda sample: (1.0,),
        Normal,
    ),
    "laplace": scale_law(
        {},
        lambda x: -x,
        lambda x: -np.expm1(-x),
        lambda sample: (sample.mean(lambda x: x),),
        Laplace,
    ),
    "logistic": scale_law(
        {},
        lambda x: math.log(2) - x - 2 * np.log1p(np.exp(-x)),
        lambda x: np.tanh(x / 2),
        lambda sample: (0.55,),
        Logistic,
    ),
    "generalized_normal": scale_law(
        {"power": "log"},
        lambda x, power: np.log(power) - scipy.special.gammaln(1 / power) - x**power,
        lambda x, power: scipy.special.gammainc(1 / power, x**power),
        lambda sample: [(1.4, 2.0), (0.7, 1.0), (0.1, 0.5)],
        GeneralizedNormal,
    ),
    "student_t": scale_law(
        {"df": "log"},
        _t_log_density,
        lambda x, df: 1 - scipy.special.betainc(df / 2, 0.5, df / (df + x * x)),
        lambda sample: [(1.0, 50.0), (0.8, 6.0), (0.5, 2.0)],
        StudentT,
    ),
    "log_normal": scale_law(
        {"sigma": "log"},
        lambda x, sigma: (
            -0.5 * (np.log(x) / sigma) ** 2 - np.log(x * sigma) - 0.5 * math.log(2 * math.pi)
        ),
        lambda x, sigma: scipy.special.ndtr(np.log(np.maximum(x, 1e-300)) / sigma),
        _log_normal_start,
        LogNormal,
    ),
    "generalized_gamma": scale_law(
        {"shape": "log", "power": "log"},
        lambda x, shape, power: (
            np.log(power)
            - scipy.special.gammaln(shape / power)
            + (shape - 1) * np.log(x)
            - x**power
        ),
        lambda x, shape, power: scipy.special.gammainc(shape / power, x**power),
        lambda sample: [(1.4, 1.0, 2.0), (0.7, 1.0, 1.0), (1.0, 0.6, 1.5)],
        GeneralizedGamma,
    ),
    "normal_mixture": scale_law(
        {"ratio": "log", "weight": "logit"},
        _mixture_log_density,
        lambda x, ratio, weight: (
            (1 - weight) * scipy.special.erf(x / math.sqrt(2))
            + weight * scipy.special.erf(x / (ratio * math.sqrt(2)))
        ),
        lambda sample: [(0.8, 1.8, 0.3), (0.7, 3.0, 0.1), (0.3, 5.0, 0.1), (0.05, 30.0, 0.1)],
        NormalMixture,
    ),
    "power_law": Law(
        {"alpha": "identity"},
        lambda x, support, alpha: (
            np.log(alpha - 1) - math.log(support[0]) - alpha * np.log(x / support[0])
        ),
        lambda x, support, alpha: -np.expm1((1 - alpha) * np.log(np.maximum(x / support[0], 1))),
        _power_start,
        _symmetric_power_law,
        ends=1,
    ),
    "truncated_power_law": Law(
        {"alpha": "identity"},
        _truncated_log_density,
        _truncated_cdf,
        lambda sample: [(0.0,), (0.5,), (1.0,), (2.0,), (4.0,)],
        _symmetric_power_law,
        ends=2,
    ),
    "cutoff_power_law": Law(
        {"alpha": "identity", "scale": "log"},
        _cutoff_log_density,
        _cutoff_cdf,
        lambda sample: [(0.5, 1.0), (0.0, 0.5), (-1.0, 0.3), (1.5, 3.0), (2.5, 10.0)],
        lambda support, parameters: CutoffPowerLaw(
            parameters["alpha"], parameters["scale"] / support[0]
        ),
        ends=1,
    ),
}


DISTRIBUTIONS = {
    law.__name__: law
    for law in (
        Normal,
        TruncatedNormal,
        Uniform,
        Laplace,
        SymmetricPowerLaw,
        CutoffPowerLaw,
        StudentT,
        GeneralizedNormal,
        Empirical,
        Logistic,
        LogNormal,
        GeneralizedGamma,
        NormalMixture,
    )
}
