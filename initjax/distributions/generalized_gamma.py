"""The generalized gamma law, on both sides."""

import dataclasses
import math

import numpy as np

from initjax.distributions.laws import fitted
from initjax.distributions.library import NUMPY
from initjax.distributions.tabulated import SymmetricTabulated
from initjax.support.arguments import positive


@fitted(
    "generalized_gamma",
    lambda sample: [(1.4, 1.0, 2.0), (0.7, 1.0, 1.0), (1.0, 0.6, 1.5)],
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
    examples = ((0.3, 2.0), (0.9, 1.8), (1.0, 0.7), (3.0, 0.8))

    def __post_init__(self):
        object.__setattr__(self, "shape", positive(self.shape, "shape"))
        object.__setattr__(self, "power", positive(self.power, "power"))

    def _moment(self, order):
        numerator = math.lgamma((self.shape + order) / self.power)
        return math.exp(numerator - math.lgamma(self.shape / self.power))

    @property
    def std(self):
        return math.sqrt(self._moment(2))

    @property
    def kurtosis(self):
        return self._moment(4) / self._moment(2) ** 2

    @staticmethod
    def log_density(lib, x, shape, power):
        # 0 log(0) is 0: at shape = 1 the density at 0 is finite.
        bend = lib.np.where(shape == 1, 0.0, (shape - 1) * lib.np.log(x))
        return np.log(power) - NUMPY.special.gammaln(shape / power) + bend - x**power

    @staticmethod
    def below(lib, x, shape, power):
        return lib.special.gammainc(shape / power, x**power)

    @staticmethod
    def above(lib, x, shape, power):
        return lib.special.gammaincc(shape / power, x**power)

    def magnitude_isf(self, p):
        return NUMPY.special.gammainccinv(self.shape / self.power, p) ** (1 / self.power)

    def magnitude_ppf(self, p):
        return NUMPY.special.gammaincinv(self.shape / self.power, p) ** (1 / self.power)
