"""Unit-free laws of a weight: each can be sampled and evaluated.

A `Distribution` is a frozen dataclass of its shape parameters, so it is hashable, picklable and
equal to another with the same parameters. Its scale is fixed by its definition; an initializer
multiplies it by what a layer's fans ask for. Samples are drawn in float32 (float64 where float64 is
asked for) and cast last: drawing random bits in bfloat16 gives 128 distinct values and a bias.
"""

import abc
import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import special

from initjax.arguments import finite
from initjax.errors import UserError


def compute_dtype(dtype) -> np.dtype:
    """The real dtype in which a sample that ends in `dtype` is drawn: float32, or float64."""
    if dtype is None:
        dtype = float
    dtype = jax.dtypes.canonicalize_dtype(dtype)
    if not jnp.issubdtype(dtype, jnp.inexact):
        raise UserError(
            f"dtype={np.dtype(dtype).name} cannot hold random weights; use a float dtype."
        )
    real = jnp.finfo(dtype).dtype
    return np.dtype(np.float64 if real == np.float64 else np.float32)


@dataclasses.dataclass(frozen=True)
class Distribution(abc.ABC):
    """A law of a real random variable.

    Subclasses define `std`, `kurtosis` (of the law, E[(w - E w)^4] / Var^2: 3 for a normal law),
    `log_prob`, `cdf`, `icdf` and `draw`.
    """

    mean = 0.0

    @property
    @abc.abstractmethod
    def std(self) -> float:
        """Standard deviation."""

    @property
    @abc.abstractmethod
    def kurtosis(self) -> float:
        """Fourth central moment over the squared variance; 3 for a normal law."""

    @abc.abstractmethod
    def log_prob(self, x):
        """Natural logarithm of the density at `x`; -inf outside the support."""

    @abc.abstractmethod
    def cdf(self, x):
        """P(w <= x)."""

    @abc.abstractmethod
    def icdf(self, p):
        """The quantile: the x with cdf(x) = p, for p in [0, 1]."""

    @abc.abstractmethod
    def draw(self, key, shape, dtype, out_sharding):
        """Samples of the real dtype float32 or float64."""

    def draw_complex(self, key, shape, dtype, out_sharding):
        """Complex samples with E|w|^2 = std^2: independent parts, each over sqrt(2)."""
        key_real, key_imag = jax.random.split(key)
        real = self.draw(key_real, shape, dtype, out_sharding)
        imag = self.draw(key_imag, shape, dtype, out_sharding)
        return jax.lax.complex(real, imag) * np.sqrt(dtype.type(0.5))

    def sample(self, key, shape=(), dtype=None, out_sharding=None):
        """Independent samples.

        Args:
          key: a PRNG key, typed or legacy.
          shape: the shape of the result.
          dtype: a float or complex dtype; default: JAX's default float dtype. The draw itself is in
            float32 (float64 for float64) and is cast last.
          out_sharding: as in `jax.random.normal`.

        Returns:
          An array of `shape` and `dtype`.
        """
        return self.sample_scaled(key, shape, dtype, 1.0, out_sharding)

    def sample_scaled(self, key, shape, dtype, multiplier, out_sharding=None):
        """`multiplier` times `sample(...)`, cast last."""
        real_dtype = compute_dtype(dtype)
        dtype = jax.dtypes.canonicalize_dtype(float if dtype is None else dtype)
        multiplier = real_dtype.type(multiplier)
        is_complex = jnp.issubdtype(dtype, jnp.complexfloating)
        shape = tuple(shape)
        if is_complex:
            w = _draw_scaled(self.draw_complex, key, shape, real_dtype, multiplier, out_sharding)
        else:
            w = self.draw_scaled(key, shape, real_dtype, multiplier, out_sharding)
        return w.astype(dtype)

    def draw_scaled(self, key, shape, dtype, multiplier, out_sharding):
        """`multiplier` times `draw(...)`, as one compiled program."""
        return _draw_scaled(self.draw, key, shape, dtype, multiplier, out_sharding)

    def multiplier(self, variance: np.floating) -> np.floating:
        """What a sample is multiplied by to have `variance`, in the dtype of `variance`."""
        return np.sqrt(variance) / variance.dtype.type(self.std)


@functools.partial(jax.jit, static_argnums=(0, 2, 3, 5))
def _draw_scaled(draw, key, shape, dtype, multiplier, out_sharding):
    return draw(key, shape, dtype, out_sharding) * multiplier


@dataclasses.dataclass(frozen=True)
class Normal(Distribution):
    """The standard normal law: log p(x) = -x^2/2 - log(2 pi)/2."""

    @property
    def std(self):
        return 1.0

    @property
    def kurtosis(self):
        return 3.0

    def log_prob(self, x):
        return -0.5 * jnp.square(x) - 0.5 * math.log(2 * math.pi)

    def cdf(self, x):
        return special.ndtr(x)

    def icdf(self, p):
        return special.ndtri(p)

    def draw(self, key, shape, dtype, out_sharding):
        return jax.random.normal(key, shape, dtype, out_sharding=out_sharding)

    def draw_scaled(self, key, shape, dtype, multiplier, out_sharding):
        # Left to JAX's own initializer: whether the scale is merged into the sqrt(2) of the draw
        # differs between JAX versions, and with it the last bit.
        init = jax.nn.initializers.normal(multiplier, dtype)
        return init(key, shape, dtype, out_sharding)


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

    def __post_init__(self):
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
    def mean(self):
        return self._moments[1]

    @property
    def std(self):
        return math.sqrt(self._moments[2] - self.mean**2)

    @property
    def kurtosis(self):
        _, m1, m2, m3, m4 = self._moments
        return (m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4) / self.std**4

    def log_prob(self, x):
        inside = (x >= self.lower) & (x <= self.upper)
        return jnp.where(inside, Normal().log_prob(x) - math.log(self._moments[0]), -jnp.inf)

    def cdf(self, x):
        x = jnp.clip(x, self.lower, self.upper)
        if self.lower + self.upper < 0:
            low = special.ndtr(self.lower)
            return jnp.clip((special.ndtr(x) - low) / (special.ndtr(self.upper) - low), 0, 1)
        high = special.ndtr(-self.upper)
        return 1 - jnp.clip((special.ndtr(-x) - high) / (special.ndtr(-self.lower) - high), 0, 1)

    def icdf(self, p):
        if self.lower + self.upper < 0:
            low, high = special.ndtr(self.lower), special.ndtr(self.upper)
            x = special.ndtri(low + p * (high - low))
        else:
            low, high = special.ndtr(-self.upper), special.ndtr(-self.lower)
            x = -special.ndtri(low + (1 - p) * (high - low))
        return jnp.clip(x, self.lower, self.upper)

    def draw(self, key, shape, dtype, out_sharding):
        return jax.random.truncated_normal(
            key, self.lower, self.upper, shape, dtype, out_sharding=out_sharding
        )

    def draw_complex(self, key, shape, dtype, out_sharding):
        """A complex normal law (E|w|^2 = 1) truncated at the modulus `upper`, rescaled to `std`.

        The squared modulus is exponential, truncated at upper^2 =: t, so that
        E|w|^2 = 1 - t / (e^t - 1): 0.96196^2 at upper = 2.
        """
        if self.lower != -self.upper:
            raise UserError(
                f"lower={self.lower}, upper={self.upper}: complex samples need symmetric bounds."
            )
        t = self.upper**2
        complex_std = math.sqrt(1 - t / math.expm1(t))
        key_modulus, key_angle = jax.random.split(key)
        u = jax.random.uniform(key_modulus, shape, dtype, out_sharding=out_sharding)
        modulus = jnp.sqrt(-jnp.log1p(math.expm1(-t) * u)) * (self.std / complex_std)
        return _polar(modulus, key_angle, shape, dtype, out_sharding)


@dataclasses.dataclass(frozen=True)
class Uniform(Distribution):
    """The uniform law on [-1, 1]: p(x) = 1/2, variance 1/3. Complex samples fill a disk."""

    @property
    def std(self):
        return math.sqrt(1 / 3)

    @property
    def kurtosis(self):
        return 1.8

    def log_prob(self, x):
        return jnp.where(jnp.abs(x) <= 1, -math.log(2.0), -jnp.inf)

    def cdf(self, x):
        return jnp.clip(0.5 + 0.5 * jnp.asarray(x), 0, 1)

    def icdf(self, p):
        return 2 * jnp.asarray(p) - 1.0

    def draw(self, key, shape, dtype, out_sharding):
        return jax.random.uniform(key, shape, dtype, -1.0, out_sharding=out_sharding)

    def draw_complex(self, key, shape, dtype, out_sharding):
        key_modulus, key_angle = jax.random.split(key)
        u = jax.random.uniform(key_modulus, shape, dtype, out_sharding=out_sharding)
        return _polar(jnp.sqrt(2 * u) * self.std, key_angle, shape, dtype, out_sharding)

    def multiplier(self, variance):
        # sqrt(3 v), not sqrt(v) / sqrt(1/3): the same number but for its last bit, and this is the
        # last bit of jax.nn.initializers.
        return np.sqrt(variance.dtype.type(3) * variance)


@dataclasses.dataclass(frozen=True)
class Laplace(Distribution):
    """The Laplace law of unit scale: p(x) = exp(-|x|) / 2, variance 2, kurtosis 6."""

    @property
    def std(self):
        return math.sqrt(2.0)

    @property
    def kurtosis(self):
        return 6.0

    def log_prob(self, x):
        return -jnp.abs(x) - math.log(2)

    def cdf(self, x):
        tail = 0.5 * jnp.exp(-jnp.abs(x))
        return jnp.where(x > 0, 1 - tail, tail)

    def icdf(self, p):
        p = jnp.asarray(p)
        size = -jnp.log(2 * jnp.minimum(p, 1 - p))
        return jnp.where(p < 0.5, -size, size)

    def draw(self, key, shape, dtype, out_sharding):
        negative, v = random_sign_and_probability(key, shape, dtype, out_sharding)
        size = -jnp.log(v)
        return jnp.where(negative, -size, size)


def random_sign_and_probability(key, shape, dtype, out_sharding):
    """(a fair bool, v uniform in (0, 1]) of one random word each: what a symmetric law needs.

    The low bit is the sign; the high bits are v = (n + 1/2) 2^-digits, never 0.
    """
    digits = 24 if dtype == np.float32 else 53
    word = np.uint32 if dtype == np.float32 else np.uint64
    bits = jax.random.bits(key, shape, word, out_sharding=out_sharding)
    shift = word(8 * word().itemsize - digits)
    v = ((bits >> shift).astype(dtype) + dtype.type(0.5)) * dtype.type(2.0**-digits)
    return (bits & word(1)).astype(bool), v


def _polar(modulus, key, shape, dtype, out_sharding):
    """modulus * exp(i angle) with uniform angles."""
    angle = jax.random.uniform(key, shape, dtype, 0, 2 * math.pi, out_sharding=out_sharding)
    return jax.lax.complex(modulus * jnp.cos(angle), modulus * jnp.sin(angle))


# Below this, (alpha - 1) L is zero: float32 could not hold it. expm1 and log1p are exact above it.
_TINY_RATE = 1e-30


def log_h(s, length):
    """log h(s, L), h(s, L) = (1 - e^(-s L)) / s and h(0, L) = L; L may be inf where s > 0.

    In float64, for numbers and NumPy arrays.
    """
    s, length = np.asarray(s, np.float64), np.asarray(length, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        z = np.where(s == 0, 0.0, np.abs(s) * length)
        ratio = np.where(z < 1e-300, length, -np.expm1(-z) / np.abs(s))
        return np.where(s < 0, z, 0.0) + np.log(ratio)


@dataclasses.dataclass(frozen=True)
class SymmetricPowerLaw(Distribution):
    """The symmetric power law with both ends cut off, the law of NSPL.

        p(w) = |w|^-alpha / (2 h(1 - alpha, L)),   1/ratio <= |w| <= 1,   L = ln(ratio),

    with h(s, L) = (1 - e^(-s L)) / s and h(0, L) = L. Its variance is h(3-alpha, L) / h(1-alpha, L)
    and its kurtosis h(5-alpha) h(1-alpha) / h(3-alpha)^2, for every real alpha: no exponent is a
    special case. ln|w| is a truncated exponential variable, which is how it is sampled: one random
    word gives the sign and the quantile, and the inverse CDF has no cancellation near alpha = 1
    (the textbook form (a^B + u (b^B - a^B))^(1/B) divides by zero there).

    The law is our specification of that in Xing, Sun, Shao & Sui, "Research on Weight
    Initialization Method in Deep Learning", Computer Engineering 48(7):104-113, 2022 (method
    patented as CN113255883B), whose exponent and cut-offs are not published in its abstract.

    Args:
      alpha: the exponent, any real number; 0 is the uniform law on the two sides.
      ratio: largest over smallest |w|, more than 1; inf is allowed for alpha < 1.
    """

    alpha: float = 1.0
    ratio: float = 100.0

    def __post_init__(self):
        object.__setattr__(self, "alpha", finite(self.alpha, "alpha"))
        if self.ratio != math.inf or self.alpha >= 1:
            object.__setattr__(self, "ratio", finite(self.ratio, "ratio"))
        if not self.ratio > 1:
            raise UserError(f"ratio={self.ratio} must be more than 1: it is max|w| / min|w|.")

    @property
    def _length(self) -> float:
        return math.log(self.ratio)

    def _log_moment(self, order: int) -> float:
        """log E|w|^order."""
        upper, lower = (log_h(k + 1 - self.alpha, self._length) for k in (order, 0))
        return float(upper - lower)

    @property
    def std(self):
        return math.exp(0.5 * self._log_moment(2))

    @property
    def kurtosis(self):
        return math.exp(self._log_moment(4) - 2 * self._log_moment(2))

    def log_prob(self, x):
        size = jnp.abs(x)
        inside = (size >= 1 / self.ratio) & (size <= 1)
        log_size = jnp.log(jnp.where(inside, size, 1.0))
        normalizer = math.log(2) + float(log_h(1 - self.alpha, self._length))
        return jnp.where(inside, -self.alpha * log_size - normalizer, -jnp.inf)

    def _log_distance(self, v):
        """ln(|w| / anchor) without its sign, from the probability v of lying farther from it.

        The anchor is the end at which the density of ln|w| is highest: 1/ratio for alpha > 1, else
        1. alpha and ratio are static, so only one of the three forms is compiled.
        """
        rate, length = abs(self.alpha - 1), self._length
        z = rate * length
        if z < _TINY_RATE:
            return (1 - v) * length
        if z < 1:
            return -jnp.log1p((1 - v) * math.expm1(-z)) / rate
        return -jnp.log(v + (1 - v) * math.exp(-z)) / rate

    def _magnitude(self, v):
        """|w| from the probability v of lying farther from the anchor than |w|."""
        distance = self._log_distance(v)
        return jnp.exp(distance) / self.ratio if self.alpha > 1 else jnp.exp(-distance)

    def cdf(self, x):
        size = jnp.abs(x)
        inside = jnp.clip(size, 1 / self.ratio, 1.0)
        rate, length = abs(self.alpha - 1), self._length
        if self.alpha > 1:
            distance = jnp.log(inside) + length  # from the smallest |w|
        else:
            distance = -jnp.log(inside)  # from the largest |w|; inf at 0
        if rate * length < _TINY_RATE:
            nearer = distance / length
        else:
            nearer = jnp.expm1(-rate * distance) / math.expm1(-rate * length)
        # P(|w| <= size): nearer to the smallest |w|, or farther from the largest.
        below = nearer if self.alpha > 1 else 1 - nearer
        return 0.5 + 0.5 * jnp.sign(x) * jnp.clip(below, 0, 1)

    def icdf(self, p):
        p = jnp.asarray(p)
        q = jnp.abs(2 * p - 1)  # P(|W| <= |w|)
        size = self._magnitude(1 - q if self.alpha > 1 else q)
        return jnp.where(p < 0.5, -size, size)

    def draw(self, key, shape, dtype, out_sharding):
        negative, v = random_sign_and_probability(key, shape, dtype, out_sharding)
        size = self._magnitude(v)
        return jnp.where(negative, -size, size)
