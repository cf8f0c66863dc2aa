"""The generalized normal law."""

import dataclasses
import math
from typing import Any, ClassVar

import numpy as np

from initjax.distributions.gamma import gamma_above, gamma_below, gamma_isf, gamma_ppf
from initjax.distributions.laws import LAWS, fitted
from initjax.distributions.library import NUMPY, Library
from initjax.distributions.tabulated import SymmetricTabulated
from initjax.support.arguments import positive


def _start(sample):
    """For each power the most likely scale, (power E|w|^power)^(1/power)."""
    powers = np.geomspace(0.02, 2000, 21)
    return [(_scale(sample, p), p) for p in (*powers, 1.0, 2.0)]


def _scale(sample, power):
    log_size = np.log(sample.middle)
    most = log_size[-1]  # taken out, so that no power overflows
    mean = (sample.counts * np.exp(power * (log_size - most))).sum() / sample.size
    return math.exp(max(min(most + math.log(power * mean) / power, 600.0), -600.0))


@fitted(
    "generalized_normal",
    _start,
    center=lambda power: NUMPY.special.psi(1 / power) / power,
    limits={"uniform": LAWS["uniform"]},
    contains=("normal", "laplace"),
    power="log",
)
@dataclasses.dataclass(frozen=True)
class GeneralizedNormal(SymmetricTabulated):
    """p(x) = power / (2 Gamma(1/power)) exp(-|x|^power); variance Gamma(3/power) / Gamma(1/power).

    power = 2 is normal (of variance 1/2), 1 is Laplace; |x|^power has a gamma law.
    """

    power: float = 1.5
    examples: ClassVar[tuple[tuple[float, ...], ...]] = ((0.5,), (1.0,), (1.5,), (2.0,), (8.0,))

    def __post_init__(self) -> None:
        object.__setattr__(self, "power", positive(self.power, "power"))

    def _moment(self, order):
        return math.exp(math.lgamma((order + 1) / self.power) - math.lgamma(1 / self.power))

    @property
    def std(self) -> float:
        return math.sqrt(self._moment(2))

    @property
    def kurtosis(self) -> float:
        return self._moment(4) / self._moment(2) ** 2

    @staticmethod
    def log_density(lib: Library, x: Any, power: Any) -> Any:
        return np.log(power) - NUMPY.special.gammaln(1 / power) - x**power

    @staticmethod
    def below(lib: Library, x: Any, power: Any) -> Any:
        return gamma_below(lib, x, 1 / power, power)

    @staticmethod
    def above(lib: Library, x: Any, power: Any) -> Any:
        return gamma_above(lib, x, 1 / power, power)

    def magnitude_isf(self, p: np.ndarray) -> np.ndarray:
        return gamma_isf(p, 1 / self.power, self.power)

    def magnitude_ppf(self, p: np.ndarray) -> np.ndarray:
        return gamma_ppf(p, 1 / self.power, self.power)
