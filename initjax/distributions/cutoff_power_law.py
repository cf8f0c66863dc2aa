"""Power laws that fade out exponentially."""

import dataclasses
import functools
import math
from typing import Any, ClassVar

import numpy as np

from initjax.distributions.family import Law
from initjax.distributions.laws import LAWS, drawn
from initjax.distributions.library import NUMPY, Library
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
    examples: ClassVar[tuple[tuple[float, ...], ...]] = (
        *((alpha, math.inf) for alpha in (-1.0, 0.0, 0.5, 0.9)),
        *((alpha, ratio) for alpha in (0.5, 1.0, 2.5) for ratio in (0.5, 10.0, 1000.0)),
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", finite(self.alpha, "alpha"))
        if self.ratio != math.inf or self.alpha >= 1:
            object.__setattr__(self, "ratio", positive(self.ratio, "ratio"))

    @property
    def std(self) -> float:
        return math.sqrt(_integrals(*self.shapes)[3][2])

    @property
    def kurtosis(self) -> float:
        moments = _integrals(*self.shapes)[3]
        return float(moments[4] / moments[2] ** 2)

    @property
    def domain(self) -> tuple[float, float]:
        return 1 / self.ratio, math.inf

    @staticmethod
    def log_density(lib: Library, x: Any, alpha: Any, ratio: Any) -> Any:
        return _log_density(lib, x, alpha, 1 / ratio, 1.0)

    @staticmethod
    def above(lib: Library, x: Any, alpha: Any, ratio: Any) -> Any:
        y, _, log_above, _ = _integrals(alpha, ratio)
        log_x = lib.np.log(lib.np.maximum(x, 1e-300))
        return lib.np.exp(lib.np.interp(log_x, y[:-1], log_above[:-1], right=-math.inf))

    def magnitude_isf(self, p: np.ndarray) -> np.ndarray:
        y, _, log_above, _ = _integrals(*self.shapes)
        # Where the mass above is 0 in float64, no p is.
        return np.exp(np.interp(-np.log(p), -log_above[:-1], y[:-1]))

    def magnitude_ppf(self, p: np.ndarray) -> np.ndarray:
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

    For alpha < 1, that of a gamma law, unless too little lies above `smallest` to be told from 0;
    else Gauss-Legendre in y = ln x, on panels over which the integrand changes by at most e^5.
    """
    alpha, scale = np.broadcast_arrays(*(np.asarray(x, np.float64) for x in (alpha, scale)))
    shape = 1 - alpha
    with np.errstate(all="ignore"):
        above = NUMPY.special.gammaincc(shape, smallest / scale)
        closed = NUMPY.special.gammaln(shape) + shape * np.log(scale) + np.log(above)
    rest = ~((shape > 0.1) & (above > 1e-250)) & (smallest > 0)
    if rest.any():
        closed = np.array(closed)
        closed[rest] = _integrated_mass(shape[rest], smallest, scale[rest])
    return closed


def _integrated_mass(shape, smallest, scale):
    points, weights = np.polynomial.legendre.leggauss(8)
    low = math.log(smallest)
    high = np.log(smallest + scale * (60 + 4 * np.maximum(shape, 0)))
    # How fast the integrand falls from `smallest` on: e^-60 of it is left at most.
    fall = smallest / scale - shape
    high = np.where(fall > 0, np.minimum(high, low + 60 / np.maximum(fall, 1e-9)), high)
    panels = (high - low) * np.maximum(np.abs(fall), 1.0) / 5
    panels = int(min(max(np.max(panels), np.max(high - low) / 0.3, 7), 4000)) + 1
    width = (high - low)[..., None] / panels
    position = (np.arange(panels)[:, None] + 0.5 * (points + 1)).ravel()
    y = low + width * position
    log_weight = np.log(0.5 * width) + np.log(np.tile(weights, panels))
    terms = shape[..., None] * y - np.exp(y) / scale[..., None] + log_weight
    return NUMPY.special.logsumexp(terms, axis=-1)


def _start(sample):
    """The gamma law that is nearly the most likely (Minka 2002), and others around it."""
    mean = sample.mean(lambda x: x)
    gap = max(math.log(mean) - sample.mean(np.log), 1e-9)
    shape = (3 - gap + math.sqrt((gap - 3) ** 2 + 24 * gap)) / (12 * gap)
    alpha = 1 + 1 / max(sample.mean(lambda x: np.log(x / sample.lower[0])), 1e-6)
    scales = [0.1 * mean, mean, sample.upper[-1], 10 * sample.upper[-1]]
    rows = [(1 - shape, mean / shape), *((a, x) for x in scales for a in (0.0, 0.7, 1.5, alpha))]
    return [*rows, (0.5, 1.0), (0.0, 0.5), (-1.0, 0.3), (2.5, 10.0)]


def _cdf(x, support, alpha, scale):
    """P(|w| <= x), once a fit: on a fixed number of points, where `_integrals` serves the draws."""
    # Masses of panels so narrow that the distribution function is linear in them.
    low = math.log(support[0])
    high = math.log(support[0] + scale * (60 + 4 * max(1 - alpha, 0)))
    fall = support[0] / scale + alpha - 1
    y = np.linspace(low, min(high, low + 60 / fall) if fall > 0 else high, 8192)
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
        _start,
        lambda support, parameters: CutoffPowerLaw(
            parameters["alpha"], parameters["scale"] / support[0]
        ),
        ends="a",
        limits={"power_law": LAWS["power_law"]},
        contains=("power_law",),
    ),
)
