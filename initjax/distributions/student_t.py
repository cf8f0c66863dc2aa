"""Student's t."""

import dataclasses
import math
from typing import Any, ClassVar

import numpy as np

from initjax.distributions.laws import LAWS, fitted
from initjax.distributions.library import NUMPY, Library
from initjax.distributions.tabulated import SymmetricTabulated
from initjax.support.arguments import positive


def _start(sample):
    """For each df the scales at which the median, and the mean of ln|w|, are the weights'."""
    df = np.geomspace(0.02, 200, 12)
    by_median = sample.quantile(0.5) / np.abs(NUMPY.special.stdtrit(df, 0.25))
    by_mean = np.exp(sample.mean(np.log) - _center(df))
    scale = np.append(by_median, by_mean)
    possible = np.isfinite(np.log(scale))
    return [(1.0, 50.0), (0.8, 6.0), *np.stack([scale, np.tile(df, 2)], -1)[possible]]


def _center(df):
    """E ln|x|."""
    return 0.5 * (np.log(df) + NUMPY.special.psi(0.5) - NUMPY.special.psi(df / 2))


@fitted("student_t", _start, center=_center, limits={"normal": LAWS["normal"]}, df="log")
@dataclasses.dataclass(frozen=True)
class StudentT(SymmetricTabulated):
    """Student's t law of `df` degrees of freedom: p(x) ~ (1 + x^2 / df)^(-(df+1)/2).

    The variance df / (df - 2) is inf for df <= 2, the kurtosis 3 + 6 / (df - 4) for df <= 4.
    """

    df: float = 5.0
    examples: ClassVar[tuple[tuple[float, ...], ...]] = ((1.0,), (2.5,), (5.0,), (30.0,))

    def __post_init__(self) -> None:
        object.__setattr__(self, "df", positive(self.df, "df"))

    @property
    def std(self) -> float:
        return math.sqrt(self.df / (self.df - 2)) if self.df > 2 else math.inf

    @property
    def kurtosis(self) -> float:
        return 3 + 6 / (self.df - 4) if self.df > 4 else math.inf

    @staticmethod
    def log_density(lib: Library, x: Any, df: Any) -> Any:
        # Not the difference of two gammaln, which has no digit right at large df.
        normalizer = -NUMPY.special.betaln(df / 2, 0.5) - 0.5 * np.log(df) + math.log(2)
        return normalizer - 0.5 * (df + 1) * lib.np.log1p(x * x / df)

    @staticmethod
    def below(lib: Library, x: Any, df: Any) -> Any:
        return 1 - StudentT.above(lib, x, df)

    @staticmethod
    def above(lib: Library, x: Any, df: Any) -> Any:
        return lib.special.betainc(df / 2, 0.5, df / (df + x * x))

    def magnitude_isf(self, p: np.ndarray) -> np.ndarray:
        return np.abs(NUMPY.special.stdtrit(self.df, p / 2))  # abs: at p = 0 it is +inf

    def magnitude_ppf(self, p: np.ndarray) -> np.ndarray:
        # x^2 / (df + x^2) has a beta law: no cancellation around 0, where isf(1/2 - p/2) has one.
        share = NUMPY.special.betaincinv(0.5, self.df / 2, p)
        return np.sqrt(self.df * share / (1 - share))
