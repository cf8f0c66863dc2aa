"""The generalized gamma law, on both sides."""

import dataclasses
import math
from typing import Any, ClassVar

import numpy as np

from initjax.distributions.family import Law
from initjax.distributions.gamma import gamma_above, gamma_below, gamma_isf, gamma_ppf
from initjax.distributions.laws import LAWS, fitted
from initjax.distributions.library import NUMPY, Library
from initjax.distributions.tabulated import SymmetricTabulated
from initjax.support.arguments import positive


def _start(sample):
    """For each power p the gamma law of |w|^p that is nearly the most likely (Minka 2002)."""
    log_size = np.log(sample.middle)
    most, mean_log = log_size[-1], float(sample.counts @ log_size / sample.size)
    rows = []
    for power in np.geomspace(0.01, 300, 20):
        mean = (sample.counts * np.exp(power * (log_size - most))).sum() / sample.size
        gap = max(math.log(mean) + power * (most - mean_log), 1e-12)
        shape = (3 - gap + math.sqrt((gap - 3) ** 2 + 24 * gap)) / (12 * gap)
        log_scale = most + math.log(mean / shape) / power
        if abs(log_scale) < 600 and shape < 1e8:
            rows.append((math.exp(log_scale), shape * power, power))
    return [*rows, (1.4, 1.0, 2.0), (0.7, 1.0, 1.0)]


def _power_function(support, parameters):
    from initjax.distributions.power_law import SymmetricPowerLaw  # which registers itself later

    return SymmetricPowerLaw(1 - parameters["shape"], math.inf)


# At power = inf: p(x) = shape x^(shape-1) / b^shape up to b.
_POWER_FUNCTION = Law(
    {"shape": "log"},
    lambda x, support, shape: (
        np.log(shape) + (shape - 1) * np.log(x / support[1]) - math.log(support[1])
    ),
    lambda x, support, shape: np.clip(x / support[1], 0, 1) ** shape,
    lambda sample: (1 / max(sample.mean(lambda x: np.log(sample.upper[-1] / x)), 1e-6),),
    _power_function,
    ends="b",
    above=lambda x, support, shape: 1 - (x / support[1]) ** shape,
)


@fitted(
    "generalized_gamma",
    _start,
    center=lambda shape, power: NUMPY.special.psi(shape / power) / power,
    limits={"log_normal": LAWS["log_normal"], "power_function": _POWER_FUNCTION},
    contains=("normal", "laplace", "generalized_normal", "uniform"),
    shape="log",
    power="log",
)
@dataclasses.dataclass(frozen=True)
class GeneralizedGamma(SymmetricTabulated):
    """p(x) = power / (2 Gamma(shape/power)) |x|^(shape-1) e^(-|x|^power) (Stacy 1962, both sides).

    shape = 1 is the generalized normal law, power = 1 the symmetric gamma law. |x|^power has the
    gamma law of shape / power; E|x|^k = Gamma((shape + k) / power) / Gamma(shape / power).
    """

    shape: float = 1.0
    power: float = 1.0
    examples: ClassVar[tuple[tuple[float, ...], ...]] = (
        (0.3, 2.0),
        (0.9, 1.8),
        (1.0, 0.7),
        (3.0, 0.8),
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", positive(self.shape, "shape"))
        object.__setattr__(self, "power", positive(self.power, "power"))

    def _moment(self, order):
        numerator = math.lgamma((self.shape + order) / self.power)
        return math.exp(numerator - math.lgamma(self.shape / self.power))

    @property
    def std(self) -> float:
        return math.sqrt(self._moment(2))

    @property
    def kurtosis(self) -> float:
        return self._moment(4) / self._moment(2) ** 2

    @staticmethod
    def log_density(lib: Library, x: Any, shape: Any, power: Any) -> Any:
        # 0 log(0) is 0: at shape = 1 the density at 0 is finite.
        bend = lib.np.where(shape == 1, 0.0, (shape - 1) * lib.np.log(x))
        return np.log(power) - NUMPY.special.gammaln(shape / power) + bend - x**power

    @staticmethod
    def below(lib: Library, x: Any, shape: Any, power: Any) -> Any:
        return gamma_below(lib, x, shape / power, power)

    @staticmethod
    def above(lib: Library, x: Any, shape: Any, power: Any) -> Any:
        return gamma_above(lib, x, shape / power, power)

    def magnitude_isf(self, p: np.ndarray) -> np.ndarray:
        return gamma_isf(p, self.shape / self.power, self.power)

    def magnitude_ppf(self, p: np.ndarray) -> np.ndarray:
        return gamma_ppf(p, self.shape / self.power, self.power)
