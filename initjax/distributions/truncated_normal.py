"""The normal law, cut off at both ends."""

import dataclasses
import functools
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from initjax.distributions.base import Distribution, polar
from initjax.distributions.laws import drawn
from initjax.distributions.library import JAX, NUMPY
from initjax.distributions.normal import Normal
from initjax.support.arguments import finite
from initjax.support.errors import UserError
from initjax.support.types import Sharding

# Beyond this, erf has fewer than 1,000 values left in float32.
_TAIL = 4.0


@drawn
@dataclasses.dataclass(frozen=True)
class TruncatedNormal(Distribution):
    """The standard normal law conditioned on lower <= w <= upper.

    With Z = Phi(upper) - Phi(lower) and m = (phi(lower) - phi(upper)) / Z, its variance is
    1 + (lower phi(lower) - upper phi(upper)) / Z - m^2: 0.8796^2 for bounds of +-2.

    Args:
      lower: lower bound, in standard deviations of the law that is truncated.
      upper: upper bound.
    """

    lower: float = -2.0
    upper: float = 2.0
    examples: ClassVar[tuple[tuple[float, ...], ...]] = (
        (-2.0, 2.0),
        (-1.0, 3.0),
        (-0.5, 0.25),
        (1.0, 4.0),
        (-6.0, -3.0),
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "lower", finite(self.lower, "lower"))
        object.__setattr__(self, "upper", finite(self.upper, "upper"))
        if not self.lower < self.upper:
            raise UserError(f"lower={self.lower} must be below upper={self.upper}.")
        if self._moments[0] <= 0.0:
            raise UserError(
                f"lower={self.lower}, upper={self.upper} hold no probability that float64 can show."
            )

    @functools.cached_property
    def _moments(self) -> tuple[float, ...]:
        """Z, then the raw moments of order 1 to 4, by m_k = (k-1) m_(k-2) - boundary_k / Z."""
        a, b = self.lower, self.upper
        # Phi(b) - Phi(a) from the tail on which both lie, where it does not cancel.
        sign = 1.0 if a + b < 0 else -1.0
        tail = [0.5 * math.erfc(-sign * bound / math.sqrt(2)) for bound in (a, b)]
        normalizer = sign * (tail[1] - tail[0])
        if normalizer <= 0.0:
            return (normalizer,)
        density = [math.exp(-0.5 * bound * bound) / math.sqrt(2 * math.pi) for bound in (a, b)]
        moments = [1.0, (density[0] - density[1]) / normalizer]
        for order in (2, 3, 4):
            boundary = b ** (order - 1) * density[1] - a ** (order - 1) * density[0]
            moments.append((order - 1) * moments[order - 2] - boundary / normalizer)
        return (normalizer, *moments[1:])

    @property
    def mean(self) -> float:
        return self._moments[1]

    @property
    def std(self) -> float:
        return math.sqrt(self._moments[2] - self.mean**2)

    @property
    def kurtosis(self) -> float:
        _, m1, m2, m3, m4 = self._moments
        return (m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4) / self.std**4

    def log_prob(self, x: ArrayLike) -> jax.Array:
        x = jnp.asarray(x)
        inside = (x >= self.lower) & (x <= self.upper)
        return jnp.where(inside, Normal().log_prob(x) - math.log(self._moments[0]), -jnp.inf)

    def cdf(self, x: ArrayLike) -> jax.Array:
        x = jnp.clip(x, self.lower, self.upper)
        if self.lower + self.upper < 0:
            low = JAX.special.ndtr(self.lower)
            return jnp.clip(
                (JAX.special.ndtr(x) - low) / (JAX.special.ndtr(self.upper) - low), 0, 1
            )
        high = JAX.special.ndtr(-self.upper)
        return 1 - jnp.clip(
            (JAX.special.ndtr(-x) - high) / (JAX.special.ndtr(-self.lower) - high), 0, 1
        )

    def icdf(self, p: ArrayLike) -> jax.Array:
        if self.lower + self.upper < 0:
            low, high = JAX.special.ndtr(self.lower), JAX.special.ndtr(self.upper)
            x = JAX.special.ndtri(low + p * (high - low))
        else:
            low, high = JAX.special.ndtr(-self.upper), JAX.special.ndtr(-self.lower)
            x = -JAX.special.ndtri(low + (1 - p) * (high - low))
        return jnp.clip(x, self.lower, self.upper)

    def draw(
        self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype, out_sharding: Sharding
    ) -> jax.Array:
        if self.lower >= _TAIL or self.upper <= -_TAIL:
            return self.icdf(jax.random.uniform(key, shape, dtype, out_sharding=out_sharding))
        w = jax.random.truncated_normal(
            key, self.lower, self.upper, shape, dtype, out_sharding=out_sharding
        )
        # JAX draws erf(w / sqrt(2)). Where that rounds to +-1, w is the bound itself, which may be
        # anywhere; `most` belongs to the last number of the dtype before 1: 5.42 in float32.
        most = float(-NUMPY.special.ndtri(np.finfo(dtype).epsneg / 2))
        return w if max(-self.lower, self.upper) <= most else jnp.clip(w, -most, most)

    def draw_complex(
        self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype, out_sharding: Sharding
    ) -> jax.Array:
        """A complex normal law (E|w|^2 = 1) truncated at the modulus `upper`, rescaled to `std`.

        The squared modulus is exponential, truncated at upper^2 =: t, so that
        E|w|^2 = 1 - t / (e^t - 1): 0.96196^2 at upper = 2.
        """
        if self.lower != -self.upper:
            raise UserError(
                f"lower={self.lower}, upper={self.upper}: complex samples need symmetric bounds."
            )
        t = self.upper**2
        complex_std = math.sqrt(1 - t / math.expm1(min(t, 700.0)))
        key_modulus, key_angle = jax.random.split(key)
        u = jax.random.uniform(key_modulus, shape, dtype, out_sharding=out_sharding)
        modulus = jnp.sqrt(-jnp.log1p(math.expm1(-t) * u)) * (self.std / complex_std)
        return polar(modulus, key_angle, shape, dtype, out_sharding)
