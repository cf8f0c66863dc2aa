"""The generalized normal law."""

import dataclasses
import math

import numpy as np

from initjax.distributions.laws import fitted
from initjax.distributions.library import NUMPY
from initjax.distributions.tabulated import SymmetricTabulated
from initjax.support.arguments import positive


@fitted("generalized_normal", lambda sample: [(1.4, 2.0), (0.7, 1.0), (0.1, 0.5)], power="log")
@dataclasses.dataclass(frozen=True)
class GeneralizedNormal(SymmetricTabulated):
    """p(x) = power / (2 Gamma(1/power)) exp(-|x|^power); variance Gamma(3/power) / Gamma(1/power).

    power = 2 is normal (of variance 1/2), 1 is Laplace; |x|^power has a gamma law.
    """

    power: float = 1.5
    examples = ((0.5,), (1.0,), (1.5,), (2.0,), (8.0,))

    def __post_init__(self):
        object.__setattr__(self, "power", positive(self.power, "power"))

    def _moment(self, order):
        return math.exp(math.lgamma((order + 1) / self.power) - math.lgamma(1 / self.power))

    @property
    def std(self):
        return math.sqrt(self._moment(2))

    @property
    def kurtosis(self):
        return self._moment(4) / self._moment(2) ** 2

    @staticmethod
    def log_density(lib, x, power):
        return np.log(power) - NUMPY.special.gammaln(1 / power) - x**power

    @staticmethod
    def below(lib, x, power):
        return lib.special.gammainc(1 / power, x**power)

    @staticmethod
    def above(lib, x, power):
        return lib.special.gammaincc(1 / power, x**power)

    def magnitude_isf(self, p):
        return NUMPY.special.gammainccinv(1 / self.power, p) ** (1 / self.power)

    def magnitude_ppf(self, p):
        return NUMPY.special.gammaincinv(1 / self.power, p) ** (1 / self.power)
