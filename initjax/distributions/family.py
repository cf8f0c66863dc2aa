"""What a fit needs of a law: density and distribution function of |w|, links, starting points."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from initjax.distributions.base import Distribution
from initjax.distributions.library import NUMPY
from initjax.distributions.symmetric import Symmetric


class Sample(NamedTuple):
    """Binned |w| in units of their root mean square `unit`.

    Attributes:
      lower: where each bin begins.
      upper: where it ends.
      counts: how many weights it holds.
      size: how many weights there are.
      unit: the root mean square of the weights.
      least: laws are conditional on |w| > least; 0 where every |w| > 0 can be told from 0.
      is_estimated: whether `least` is the smallest |w|, and no step that is known.
      is_rounded: whether the largest |w| was rounded, and lay anywhere in the last bin.
    """

    lower: np.ndarray
    upper: np.ndarray
    counts: np.ndarray
    size: int
    unit: float
    least: float = 0.0
    is_estimated: bool = False
    is_rounded: bool = False

    @property
    def middle(self) -> np.ndarray:
        """The bins' geometric middles."""
        return np.sqrt(np.maximum(self.lower, 1e-300)) * np.sqrt(self.upper)

    def mean(self, function: Callable[..., Any]) -> float:
        """The mean of a function of |w| / unit."""
        return float((self.counts * function(self.middle)).sum() / self.size)

    def quantile(self, p: float) -> float:
        """The p-quantile of |w| / unit."""
        return float(self.middle[np.searchsorted(np.cumsum(self.counts), p * self.size)])


@dataclasses.dataclass(frozen=True)
class Law:
    """A family of laws of |w|.

    Attributes:
      links: parameter name -> "log" for positive ones, "logit" for those in (0, 1), "identity".
      log_density: (x, (a, b), *parameters) -> log density of |w| at x.
      cdf: (x, (a, b), *parameters) -> P(|w| <= x).
      start: (sample) -> where the search begins, one row of parameters a start.
      make: ((a, b), parameters by name) -> the symmetric `Distribution`, its scale left out.
      ends: which end points of the support are taken from the extreme weights: "a", "b", "ab".
      above: (x, (a, b), *parameters) -> P(|w| > x); of laws whose support does not begin at a.
      center: (*shapes) -> a typical ln|w| at scale 1: the search is in ln(scale) + center, which
        stays near that of the weights where the scale alone is beyond all of them.
      limits: name -> the law that this family comes to at an edge that no parameter reaches.
      contains: names of families that this one contains, or comes to at an edge.
    """

    links: dict[str, str]
    log_density: Callable[..., Any]
    cdf: Callable[..., Any]
    start: Callable[..., Any]
    make: Callable[..., Distribution]
    ends: str = ""
    above: Callable[..., Any] | None = None
    center: Callable[..., Any] | None = None
    limits: dict[str, "Law"] = dataclasses.field(default_factory=dict)
    contains: tuple[str, ...] = ()

    def parameters(self, free: np.ndarray) -> list[np.ndarray]:
        """The parameters, of free ones [..., p] that may be any real numbers."""
        free = np.asarray(free, np.float64)
        values = [_INVERSE[link](free[..., i]) for i, link in enumerate(self.links.values())]
        if self.center is not None:
            values[0] = np.exp(free[..., 0] - self.center(*values[1:]))
        return values

    def free(self, parameters: Any) -> np.ndarray:
        """The inverse of `parameters`, of [p] or of rows [..., p]."""
        rows = np.asarray(parameters, np.float64)
        columns = [_LINK[link](rows[..., i]) for i, link in enumerate(self.links.values())]
        if self.center is not None:
            columns[0] = columns[0] + self.center(*(rows[..., i] for i in range(1, len(columns))))
        return np.stack(columns, -1) if columns else rows

    def starts(self, sample: Sample) -> np.ndarray:
        """Free parameters [starts, p] from which to search."""
        rows = np.asarray(self.start(sample), np.float64)
        return self.free(rows.reshape(-1, len(self.links)) if self.links else np.empty((1, 0)))

    def report(
        self, free: np.ndarray, covariance: np.ndarray, unit: float
    ) -> tuple[dict[str, float], dict[str, float], dict[str, tuple[float, float]]]:
        """(estimates, standard errors, 95 % intervals) by name, "scale" in units of the weights."""
        estimates, errors, intervals = {}, {}, {}
        shifts = 1e-5 * np.eye(len(free))
        if not self.links:
            return estimates, errors, intervals
        with np.errstate(all="ignore"):
            values, up, down = (self.parameters(x) for x in (free, free + shifts, free - shifts))
        for i, (name, link) in enumerate(self.links.items()):
            factor = float(unit) if name == "scale" else 1.0
            linked = float(_LINK[link](values[i]))
            gradient = (_LINK[link](up[i]) - _LINK[link](down[i])) / 2e-5
            variance = float(gradient @ covariance @ gradient)
            error = math.sqrt(variance) if variance > 0 else math.nan
            with np.errstate(over="ignore"):  # the end of an interval may be infinite
                low, high, above, below = (
                    float(_INVERSE[link](linked + shift))
                    for shift in (-1.959964 * error, 1.959964 * error, 1e-5, -1e-5)
                )
            estimates[name] = float(values[i]) * factor
            errors[name] = error * (above - below) / 2e-5 * factor
            intervals[name] = (low * factor, high * factor)
        return estimates, errors, intervals


_LINK = {"log": np.log, "logit": lambda p: NUMPY.special.logit(p), "identity": lambda x: x}
_INVERSE = {"log": np.exp, "logit": lambda x: NUMPY.special.expit(x), "identity": lambda x: x}


def scale_law(
    distribution: type[Symmetric], links: dict[str, str], start: Callable[..., Any], **more: Any
) -> Law:
    """A symmetric distribution times a scale, its first parameter; `more` as in `Law`."""

    def log_density(x, support, scale, *shapes):
        return distribution.log_density(NUMPY, x / scale, *shapes) - np.log(scale)

    def cdf(x, support, scale, *shapes):
        return distribution.below(NUMPY, x / scale, *shapes)

    def above(x, support, scale, *shapes):
        return distribution.above(NUMPY, x / scale, *shapes)

    def make(support, parameters):
        return distribution(*(parameters[name] for name in links))

    return Law({"scale": "log", **links}, log_density, cdf, start, make, above=above, **more)
