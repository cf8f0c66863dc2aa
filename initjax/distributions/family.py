"""What a fit needs of a law: density and distribution function of |w|, links, starting points."""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from initjax.distributions.base import Distribution
from initjax.distributions.library import NUMPY
from initjax.distributions.symmetric import Symmetric


class Sample(NamedTuple):
    """Binned |w| in units of their root mean square `unit`."""

    lower: np.ndarray
    upper: np.ndarray
    counts: np.ndarray
    size: int
    unit: float

    def mean(self, function: Callable) -> float:
        """The mean of a function of |w| / unit."""
        values = function(np.sqrt(np.maximum(self.lower, 1e-300) * self.upper))
        return float((self.counts * values).sum() / self.size)


@dataclasses.dataclass(frozen=True)
class Law:
    """A family of laws of |w|.

    Attributes:
      links: parameter name -> "log" for positive ones, "logit" for those in (0, 1), "identity".
      log_density: (x, (a, b), *parameters) -> log density of |w| at x.
      cdf: (x, (a, b), *parameters) -> P(|w| <= x).
      start: (sample) -> where the search begins, one row of parameters a start.
      make: ((a, b), parameters by name) -> the symmetric `Distribution`, its scale left out.
      ends: how many end points of the support are taken from the extreme weights: a, or a and b.
    """

    links: dict[str, str]
    log_density: Callable
    cdf: Callable
    start: Callable
    make: Callable[..., Distribution]
    ends: int = 0

    def parameters(self, free: np.ndarray) -> list[np.ndarray]:
        """The parameters, of free ones [..., p] that may be any real numbers."""
        return [_INVERSE[link](free[..., i]) for i, link in enumerate(self.links.values())]

    def starts(self, sample: Sample) -> np.ndarray:
        """Free parameters [starts, p] from which to search."""
        links = self.links.values()
        rows = np.atleast_2d(np.asarray(self.start(sample), np.float64))
        return np.stack([_LINK[link](rows[:, i]) for i, link in enumerate(links)], -1)

    def report(self, free, covariance, unit):
        """(estimates, standard errors, 95 % intervals) by name, "scale" in units of the weights."""
        estimates, errors, intervals = {}, {}, {}
        for i, (name, link) in enumerate(self.links.items()):
            factor = unit if name == "scale" else 1.0
            free_error = math.sqrt(covariance[i, i]) if covariance[i, i] > 0 else math.nan
            low, value, high, above, below = (
                float(_INVERSE[link](free[i] + shift))
                for shift in (-1.959964 * free_error, 0, 1.959964 * free_error, 1e-5, -1e-5)
            )
            factor = float(factor)
            estimates[name] = value * factor
            errors[name] = free_error * (above - below) / 2e-5 * factor
            intervals[name] = (low * factor, high * factor)
        return estimates, errors, intervals


_LINK = {"log": np.log, "logit": lambda p: NUMPY.special.logit(p), "identity": lambda x: x}
_INVERSE = {"log": np.exp, "logit": lambda x: NUMPY.special.expit(x), "identity": lambda x: x}


def scale_law(distribution: type[Symmetric], links: dict[str, str], start: Callable) -> Law:
    """A symmetric distribution times a scale, its first parameter."""

    def log_density(x, support, scale, *shapes):
        return distribution.log_density(NUMPY, x / scale, *shapes) - np.log(scale)

    def cdf(x, support, scale, *shapes):
        return distribution.below(NUMPY, x / scale, *shapes)

    def make(support, parameters):
        return distribution(*(parameters[name] for name in links))

    return Law({"scale": "log", **links}, log_density, cdf, start, make)
