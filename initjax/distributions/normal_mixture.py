"""Two normal laws of different widths, mixed."""

import dataclasses
import functools
import math

import jax.numpy as jnp
import numpy as np
import scipy  # and not scipy.special, which takes 0.2 s: it loads at its first use
from jax.scipy import special

from initjax.distributions.tabulated import SymmetricTabulated
from initjax.support.arguments import positive
from initjax.support.errors import UserError


@dataclasses.dataclass(frozen=True)
class NormalMixture(SymmetricTabulated):
    """With probability `weight` N(0, ratio^2), else N(0, 1).

    Args:
      ratio: standard deviation of the second component over that of the first.
      weight: share of the second component, in (0, 1).
    """

    ratio: float = 2.0
    weight: float = 0.3

    def __post_init__(self):
        object.__setattr__(self, "ratio", positive(self.ratio, "ratio"))
        object.__setattr__(self, "weight", positive(self.weight, "weight"))
        if self.weight >= 1:
            raise UserError(f"weight={self.weight} must be below 1.")

    @property
    def std(self):
        return math.sqrt(1 - self.weight + self.weight * self.ratio**2)

    @property
    def kurtosis(self):
        return 3 * (1 - self.weight + self.weight * self.ratio**4) / self.std**4

    def log_prob(self, x):
        normal = -0.5 * math.log(2 * math.pi)
        first = math.log1p(-self.weight) - 0.5 * jnp.square(x)
        second = math.log(self.weight / self.ratio) - 0.5 * jnp.square(x / self.ratio)
        return normal + jnp.logaddexp(first, second)

    def cdf(self, x):
        return (1 - self.weight) * special.ndtr(x) + self.weight * special.ndtr(x / self.ratio)

    @functools.cached_property
    def _grid(self):
        """(|x|, ln P(|W| > |x|), ln P(|W| <= |x|)), fine enough to interpolate."""
        least, most = min(1.0, self.ratio), max(1.0, self.ratio)
        x = np.geomspace(1e-18 * least, 40 * most, 200_001)
        z = x / np.array([[1.0], [self.ratio]]) / math.sqrt(2)
        shares = np.array([1 - self.weight, self.weight])
        above, below = shares @ scipy.special.erfc(z), shares @ scipy.special.erf(z)
        return np.log(x), np.log(np.maximum(above, 1e-300)), np.log(below)

    def magnitude_isf(self, p):
        log_size, log_above, _ = self._grid
        return np.exp(np.interp(-np.log(p), -log_above, log_size))

    def magnitude_ppf(self, p):
        log_size, _, log_below = self._grid
        return np.exp(np.interp(np.log(p), log_below, log_size))
