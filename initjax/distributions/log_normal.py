"""The log-normal law with a random sign."""

import dataclasses
import math
from typing import Any, ClassVar

import numpy as np

from initjax.distributions.laws import fitted
from initjax.distributions.library import NUMPY, Library
from initjax.distributions.tabulated import SymmetricTabulated
from initjax.support.arguments import positive


def _start(sample):
    mean = sample.mean(np.log)
    return math.exp(mean), math.sqrt(max(sample.mean(lambda x: (np.log(x) - mean) ** 2), 1e-9))


@fitted("log_normal", _start, sigma="log")
@dataclasses.dataclass(frozen=True)
class LogNormal(SymmetricTabulated):
    """A random sign and a log-normal size: ln|x| is normal of mean 0.

        p(x) = exp(-ln(|x|)^2 / (2 sigma^2)) / (2 |x| sigma sqrt(2 pi)); E|x|^k = e^(k^2 sigma^2/2)

    Args:
      sigma: standard deviation of ln|x|.
    """

    sigma: float = 1.0
    examples: ClassVar[tuple[tuple[float, ...], ...]] = ((0.3,), (1.0,), (3.0,))

    def __post_init__(self) -> None:
        object.__setattr__(self, "sigma", positive(self.sigma, "sigma"))

    @property
    def std(self) -> float:
        return math.exp(self.sigma**2)

    @property
    def kurtosis(self) -> float:
        return math.exp(4 * self.sigma**2)

    @staticmethod
    def log_density(lib: Library, x: Any, sigma: Any) -> Any:
        value = (
            -0.5 * (lib.np.log(x) / sigma) ** 2
            - lib.np.log(x * sigma)
            - 0.5 * math.log(2 * math.pi)
        )
        return lib.np.where(x == 0, -math.inf, value)

    @staticmethod
    def below(lib: Library, x: Any, sigma: Any) -> Any:
        return lib.special.ndtr(lib.np.log(lib.np.maximum(x, 1e-300)) / sigma)

    @staticmethod
    def above(lib: Library, x: Any, sigma: Any) -> Any:
        return lib.special.ndtr(-lib.np.log(lib.np.maximum(x, 1e-300)) / sigma)

    def magnitude_isf(self, p: np.ndarray) -> np.ndarray:
        return np.exp(-self.sigma * NUMPY.special.ndtri(p))

    def magnitude_ppf(self, p: np.ndarray) -> np.ndarray:
        return np.exp(self.sigma * NUMPY.special.ndtri(p))
