"""Two normal laws of different widths, mixed."""

import dataclasses
import functools
import math
from typing import Any, ClassVar

import numpy as np

from initjax.distributions.laws import LAWS, fitted
from initjax.distributions.library import NUMPY, Library
from initjax.distributions.normal import LOG_HALF_NORMAL
from initjax.distributions.tabulated import SymmetricTabulated
from initjax.support.arguments import positive
from initjax.support.errors import UserError


def _mix(probability, x, ratio, weight):
    """`probability` of |N(0, 1)|, weighted over the components."""
    narrow = (1 - weight) * probability(x / math.sqrt(2))
    return narrow + weight * probability(x / (ratio * math.sqrt(2)))


def _start(sample):
    """Components at quantiles of the weights that would be theirs, were the two far apart."""
    rms = math.sqrt(sample.mean(np.square))
    rows = [(0.8, 1.8, 0.3), (0.7, 3.0, 0.1), (0.3, 5.0, 0.1), (0.05, 30.0, 0.1)]
    for weight in (0.001, 0.01, 0.05, 0.2, 0.5, 0.8, 0.9, 0.97):
        wide = sample.quantile(1 - 0.5 * weight) / 0.6745
        # Several scales of the narrow one: dead filters' weights range over many decades.
        for share in (0.2, 0.5, 0.8) if weight >= 0.5 else (0.5,):
            narrow = sample.quantile(share * (1 - weight)) / 0.6745
            tail = math.sqrt(max((rms**2 - (1 - weight) * narrow**2) / weight, 1e-300))
            rows += [(narrow, max(size / narrow, 1.05), weight) for size in (wide, tail)]
    return rows


@fitted(
    "normal_mixture",
    _start,
    limits={"normal": LAWS["normal"]},
    ratio="log",
    weight="logit",
)
@dataclasses.dataclass(frozen=True)
class NormalMixture(SymmetricTabulated):
    """With probability `weight` N(0, ratio^2), else N(0, 1).

    Args:
      ratio: standard deviation of the second component over that of the first.
      weight: share of the second component, in (0, 1).
    """

    ratio: float = 2.0
    weight: float = 0.3
    examples: ClassVar[tuple[tuple[float, ...], ...]] = ((2.0, 0.3), (3.0, 0.2), (0.1, 0.7))

    def __post_init__(self) -> None:
        object.__setattr__(self, "ratio", positive(self.ratio, "ratio"))
        object.__setattr__(self, "weight", positive(self.weight, "weight"))
        if self.weight >= 1:
            raise UserError(f"weight={self.weight} must be below 1.")

    @property
    def std(self) -> float:
        return math.sqrt(1 - self.weight + self.weight * self.ratio**2)

    @property
    def kurtosis(self) -> float:
        return 3 * (1 - self.weight + self.weight * self.ratio**4) / self.std**4

    @staticmethod
    def log_density(lib: Library, x: Any, ratio: Any, weight: Any) -> Any:
        narrow = np.log1p(-weight) - 0.5 * x * x
        wide = np.log(weight / ratio) - 0.5 * (x / ratio) ** 2
        return LOG_HALF_NORMAL + lib.np.logaddexp(narrow, wide)

    @staticmethod
    def below(lib: Library, x: Any, ratio: Any, weight: Any) -> Any:
        return _mix(lib.special.erf, x, ratio, weight)

    @staticmethod
    def above(lib: Library, x: Any, ratio: Any, weight: Any) -> Any:
        return _mix(lib.special.erfc, x, ratio, weight)

    @functools.cached_property
    def _grid(self):
        """(|x|, ln P(|W| > |x|), ln P(|W| <= |x|)), fine enough to interpolate."""
        least, most = min(1.0, self.ratio), max(1.0, self.ratio)
        x = np.geomspace(1e-18 * least, 40 * most, 200_001)
        z = x / np.array([[1.0], [self.ratio]]) / math.sqrt(2)
        shares = np.array([1 - self.weight, self.weight])
        above, below = shares @ NUMPY.special.erfc(z), shares @ NUMPY.special.erf(z)
        return np.log(x), np.log(np.maximum(above, 1e-300)), np.log(below)

    def magnitude_isf(self, p: np.ndarray) -> np.ndarray:
        log_size, log_above, _ = self._grid
        return np.exp(np.interp(-np.log(p), -log_above, log_size))

    def magnitude_ppf(self, p: np.ndarray) -> np.ndarray:
        log_size, _, log_below = self._grid
        return np.exp(np.interp(np.log(p), log_below, log_size))
