"""The logistic law."""

import dataclasses
import math
from typing import Any

import numpy as np

from initjax.distributions.laws import fitted
from initjax.distributions.library import Library
from initjax.distributions.tabulated import SymmetricTabulated


@fitted("logistic", lambda sample: [(0.55,), (0.7 * sample.mean(lambda x: x),)])
@dataclasses.dataclass(frozen=True)
class Logistic(SymmetricTabulated):
    """The logistic law of unit scale: p(x) = e^-|x| / (1 + e^-|x|)^2; variance pi^2 / 3."""

    @property
    def std(self) -> float:
        return math.pi / math.sqrt(3)

    @property
    def kurtosis(self) -> float:
        return 4.2

    @staticmethod
    def log_density(lib: Library, x: Any) -> Any:
        return math.log(2) - x - 2 * lib.np.log1p(lib.np.exp(-x))

    @staticmethod
    def below(lib: Library, x: Any) -> Any:
        return lib.np.tanh(x / 2)

    @staticmethod
    def above(lib: Library, x: Any) -> Any:
        return 2 * lib.special.expit(-x)

    def magnitude_isf(self, p: np.ndarray) -> np.ndarray:
        return np.log((2 - p) / p)

    def magnitude_ppf(self, p: np.ndarray) -> np.ndarray:
        return 2 * np.arctanh(p)
