"""Student's t."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import scipy  # and not scipy.special, which takes 0.2 s: it loads at its first use
from jax.scipy import special

from initjax.distributions.tabulated import SymmetricTabulated
from initjax.support.arguments import positive


@dataclasses.dataclass(frozen=True)
class StudentT(SymmetricTabulated):
    """Student's t law of `df` degrees of freedom: p(x) ~ (1 + x^2 / df)^(-(df+1)/2).

    The variance df / (df - 2) is inf for df <= 2, the kurtosis 3 + 6 / (df - 4) for df <= 4.
    """

    df: float = 5.0

    def __post_init__(self):
        object.__setattr__(self, "df", positive(self.df, "df"))

    @property
    def std(self):
        return math.sqrt(self.df / (self.df - 2)) if self.df > 2 else math.inf

    @property
    def kurtosis(self):
        return 3 + 6 / (self.df - 4) if self.df > 4 else math.inf

    def log_prob(self, x):
        df = self.df
        normalizer = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(df * math.pi)
        return normalizer - 0.5 * (df + 1) * jnp.log1p(jnp.square(x) / df)

    def cdf(self, x):
        x = jnp.asarray(x)
        tail = 0.5 * special.betainc(0.5 * self.df, 0.5, self.df / (self.df + jnp.square(x)))
        return jnp.where(x > 0, 1 - tail, tail)

    def magnitude_isf(self, p):
        return np.abs(scipy.special.stdtrit(self.df, p / 2))  # abs: at p = 0 it is +inf

    def magnitude_ppf(self, p):
        # x^2 / (df + x^2) has a beta law: no cancellation around 0, where isf(1/2 - p/2) has one.
        share = scipy.special.betaincinv(0.5, self.df / 2, p)
        return np.sqrt(self.df * share / (1 - share))
