"""Power laws that fade out exponentially."""

import dataclasses
import functools
import math

import numpy as np

from initjax.distributions.family import Law
from initjax.distributions.laws import LAWS, drawn
from initjax.distributions.library import NUMPY
from initjax.distributions.tabulated import SymmetricTabulated
from initjax.support.arguments import finite, positive


@drawn
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
    examples = (
        *((alpha, math.inf) for alpha in (-1.0, 0.0, 0.5, 0.9)),
        *((alpha, ratio) for alpha in (0.5, 1.0, 2.5) for ratio in (0.5, 10.0, 1000.0)),
    )

    def __post_init__(self):
        object.__setattr__(self, "alpha", finite(self.alpha, "alpha"))
        if self.ratio != math.inf or self.alpha >= 1:
            object.__setattr__(self, "ratio", positive(self.ratio, "ratio"))

    @property
    def std(self):
        return math.sqrt(_integrals(*self.shapes)[3][2])

    @property
    def kurtosis(self):
        moments = _integrals(*self.shapes)[3]
        return float(moments[4] / moments[2] ** 2)

    @property
    def domain(self):
        return 1 / self.ratio, math.inf

    @staticmethod
    def log_density(lib, x, alpha, ratio):
        return _log_density(lib, x, alpha, 1 / ratio, 1.0)

    @staticmethod
    def above(lib, x, alpha, ratio):
        y, _, log_above, _ = _integrals(alpha, ratio)
        log_x = lib.np.log(lib.np.maximum(x, 1e-300))
        return lib.np.exp(lib.np.interp(log_x, y[:-1], log_above[:-1], right=-math.inf))

    def magnitude_isf(self, p):
        y, _, log_above, _ = _integrals(*self.shapes)
        # Where the mass above is 0 in float64, no p is.
        return np.exp(np.interp(-np.log(p), -log_above[:-1], y[:-1]))

    def magnitude_ppf(self, p):
        y, log_below, *_ = _integrals(*self.shapes)
        if self.ratio == math.inf:
            return np.exp(np.interp(np.log(p), log_below, y, left=y[0]))
        return np.exp(np.interp(p, np.exp(log_below), y))  # y leaves its end in proportion to p


@functools.lru_cache(maxsize=64)
def _integrals(alpha, ratio):
    """(y, ln of the mass below y, ln of the mass above, moments 0 to 4), y = ln|x|.

    The density of y is exp((1 - alpha) y - e^y), integrated by Gauss-Legendre on panels of
    0.002; an infinite ratio starts where the mass below is 1e-20 of the whole.
    """
    shape = 1 - alpha
    low = -46 / shape if ratio == math.inf else -math.log(ratio)
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
    if ratio == math.inf:
        start = math.exp(shape * low - scale) / shape  # what lies below: e^-|x| is 1 there
    below = start + np.concatenate([[0.0], np.cumsum(panels)])
    above = np.concatenate([np.cumsum(panels[::-1])[::-1], [0.0]])
    moments = [start * (k == 0) + (mass * np.exp(k * at)).sum() for k in range(5)]
    total = below[-1]
    with np.errstate(divide="ignore"):
        return y, np.log(below / total), np.log(above / total), np.array(moments) / total


def _log_density(lib, x, alpha, smallest, scale):
    """Of x^-alpha e^(-x / scale) on [smallest, inf)."""
    power = lib.np.where(alpha == 0, 0.0, -alpha * lib.np.log(x))  # not NaN at x = 0
    return power - x / scale - _log_mass(alpha, smallest, scale)


def _log_mass(alpha, smallest, scale):
    """ln of the integral of x^-alpha e^(-x / scale) over [smallest, inf); NumPy arrays broadcast.

    Gauss-Legendre in y = ln x, panels of at most 0.3.
    """
    alpha, scale = np.asarray(alpha, np.float64), np.asarray(scale, np.float64)
    if smallest == 0:
        return NUMPY.special.gammaln(1 - alpha) + (1 - alpha) * np.log(scale)
    points, weights = np.polynomial.legendre.leggauss(8)
    low = math.log(smallest)
    high = np.log(smallest + scale * (60 + 4 * np.maximum(1 - alpha, 0)))
    panels = max(int(np.max(high - low) / 0.3) + 1, 8)
    width = (high - low)[..., None] / panels
    position = (np.arange(panels)[:, None] + 0.5 * (points + 1)).ravel()
    y = low + width * position
    log_weight = np.log(0.5 * width) + np.log(np.tile(weights, panels))
    terms = (1 - alpha)[..., None] * y - np.exp(y) / scale[..., None] + log_weight
    return NUMPY.special.logsumexp(terms, axis=-1)


def _cdf(x, support, alpha, scale):
    """P(|w| <= x), once a fit: on a fixed number of points, where `_integrals` serves the draws."""
    # Masses of panels so narrow that the distribution function is linear in them.
    high = math.log(support[0] + scale * (60 + 4 * max(1 - alpha, 0)))
    y = np.linspace(math.log(support[0]), high, 8192)
    log_density = (1 - alpha) * y - np.exp(y) / scale
    density = np.exp(log_density - log_density.max())
    below = np.append(0, np.cumsum(density[1:] + density[:-1]))
    return np.interp(np.log(x), y, below / below[-1])


LAWS.add(
    "cutoff_power_law",
    Law(
        {"alpha": "identity", "scale": "log"},
        lambda x, support, alpha, scale: _log_density(NUMPY, x, alpha, support[0], scale),
        _cdf,
        lambda sample: [(0.5, 1.0), (0.0, 0.5), (-1.0, 0.3), (1.5, 3.0), (2.5, 10.0)],
        lambda support, parameters: CutoffPowerLaw(
            parameters["alpha"], parameters["scale"] / support[0]
        ),
        ends=1,
    ),
)
