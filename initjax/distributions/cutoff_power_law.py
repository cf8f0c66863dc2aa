"""Power laws that fade out exponentially."""

import dataclasses
import functools
import math

import jax.numpy as jnp
import numpy as np

from initjax.distributions.tabulated import SymmetricTabulated
from initjax.support.arguments import finite, positive


@dataclasses.dataclass(frozen=True)
class CutoffPowerLaw(SymmetricTabulated):
    """The symmetric power law with an exponential cut-off.

        p(x) ~ |x|^-alpha e^-|x|,   |x| >= 1/ratio

    The large weights fade out instead of ending, which is what the first layers of trained VGG
    networks show. For alpha < 1 and an infinite ratio, |x| has the gamma law of shape 1 - alpha.

    Args:
      alpha: the exponent.
      ratio: the scale of the cut-off over the smallest |x|; inf is allowed for alpha < 1.
    """

    alpha: float = 1.0
    ratio: float = 100.0

    def __post_init__(self):
        object.__setattr__(self, "alpha", finite(self.alpha, "alpha"))
        if self.ratio != math.inf or self.alpha >= 1:
            object.__setattr__(self, "ratio", positive(self.ratio, "ratio"))

    @functools.cached_property
    def _integrals(self):
        """(y, ln of the mass below y, ln of the mass above, moments 0 to 4), y = ln|x|.

        The density of y is exp((1 - alpha) y - e^y), integrated by Gauss-Legendre on panels of
        0.002; an infinite ratio starts where the mass below is 1e-20 of the whole.
        """
        shape = 1 - self.alpha
        low = -46 / shape if self.ratio == math.inf else -math.log(self.ratio)
        # Above this lies less than any p that is drawn.
        high = math.log(math.exp(low) + 60 + 4 * max(shape, 0))
        y = np.linspace(low, high, min(max(int((high - low) / 0.002), 1000), 50_000) + 1)
        nodes, weights = np.polynomial.legendre.leggauss(6)
        step = y[1] - y[0]
        at = y[:-1, None] + 0.5 * step * (nodes + 1)
        log_density = shape * at - np.exp(at)
        scale = log_density.max()
        mass = np.exp(log_density - scale) * weights * (0.5 * step)
        panels = mass.sum(axis=1)
        start = 0.0
        if self.ratio == math.inf:
            start = math.exp(shape * low - scale) / shape  # what lies below: e^-|x| is 1 there
        below = start + np.concatenate([[0.0], np.cumsum(panels)])
        above = np.concatenate([np.cumsum(panels[::-1])[::-1], [0.0]])
        moments = [start * (k == 0) + (mass * np.exp(k * at)).sum() for k in range(5)]
        total = below[-1]
        with np.errstate(divide="ignore"):
            return (
                y,
                np.log(below / total),
                np.log(above / total),
                np.array(moments) / total,
                (math.log(total) + scale),
            )

    @property
    def std(self):
        return math.sqrt(self._integrals[3][2])

    @property
    def kurtosis(self):
        moments = self._integrals[3]
        return float(moments[4] / moments[2] ** 2)

    def log_prob(self, x):
        size = jnp.abs(x)
        inside = size >= 1 / self.ratio
        safe = jnp.where(inside, size, 1.0)
        value = -self.alpha * jnp.log(safe) - safe - self._integrals[4] - math.log(2)
        return jnp.where(inside, value, -jnp.inf)

    def cdf(self, x):
        y, log_below, *_ = self._integrals
        size = jnp.maximum(jnp.abs(x), 1e-300)
        below = jnp.interp(jnp.log(size), y, np.exp(log_below), left=0.0, right=1.0)
        return 0.5 + 0.5 * jnp.sign(x) * below

    def magnitude_isf(self, p):
        y, _, log_above, *_ = self._integrals
        # Where the mass above is 0 in float64, no p is.
        return np.exp(np.interp(-np.log(p), -log_above[:-1], y[:-1]))

    def magnitude_ppf(self, p):
        y, log_below, *_ = self._integrals
        if self.ratio == math.inf:
            return np.exp(np.interp(np.log(p), log_below, y, left=y[0]))
        return np.exp(np.interp(p, np.exp(log_below), y))  # y leaves its end in proportion to p
